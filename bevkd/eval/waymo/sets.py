"""Predictions and annotations of many frames as flat arrays: what the Waymo metrics read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bevkd.data import valid
from bevkd.errors import DataError
from bevkd.npz import Wanted, read_npz

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

TYPES = {"VEHICLE": 1, "PEDESTRIAN": 2, "SIGN": 3, "CYCLIST": 4}
_KNOWN_TYPES = ", ".join(["0 unknown", *(f"{number} {name.lower()}" for name, number in TYPES.items())])
_STRICTER = " (the official metric lets this pass)"
_ARRAYS = (
    *(Wanted("pred_box", "float", 7, "pred_box"), Wanted("pred_type", "integer", 0, "pred_box")),
    *(Wanted("pred_frame", "integer", 0, "pred_box"), Wanted("pred_score", "float", 0, "pred_box")),
    *(Wanted("pred_nlz", "bool", 0, "pred_box"), Wanted("gt_box", "float", 7, "gt_box")),
    *(Wanted("gt_type", "integer", 0, "gt_box"), Wanted("gt_frame", "integer", 0, "gt_box")),
    Wanted("gt_difficulty", "integer", 0, "gt_box"),
)


@dataclass(frozen=True)
class Boxes:
    """Boxes of many frames, sorted by frame.

    Attributes:
        box: (N, 7) x, y, z (centre), length, width, height, heading, in the vehicle frame (m, rad).
        type: (N,) see `TYPES`.
        frame: (N,) number of the frame.
        score: (N,) float32, as the benchmark compares scores; 1 for annotations.
        nlz: (N,) whether a prediction lies in a no-label zone.
        level: (N,) difficulty of an annotation, 1 or 2.
    """

    box: Floats
    type: Ints
    frame: Ints
    score: NDArray[np.float32]
    nlz: NDArray[np.bool_]
    level: Ints

    def __len__(self) -> int:
        return len(self.box)

    def select(self, keep: NDArray | slice) -> Boxes:
        """The boxes chosen by a mask, indices or a slice."""
        return Boxes(*(getattr(self, name)[keep] for name in ("box", "type", "frame", "score", "nlz", "level")))


@dataclass(frozen=True)
class Sets:
    """Predictions and annotations."""

    predictions: Boxes
    annotations: Boxes


def read_sets(path: str | Path) -> Sets:
    """Read the arrays `pred_{box,type,frame,score,nlz}` and `gt_{box,type,frame,difficulty}` of an `.npz` file.

    Raises:
        DataError: the file is missing or unreadable, an array is missing or has another shape, kind or length than the
            others, or holds a value that cannot be: not finite, a size that is not positive, an unknown type or level.
    """
    path = Path(path)
    arrays = read_arrays(path)
    for part in ("pred", "gt"):
        box, kind = arrays[f"{part}_box"], arrays[f"{part}_type"]
        _all(np.isfinite(box).all(axis=1), "not finite", path, f"{part}_box", box)
        _all(
            (box[:, 3:6] >= 0).all(axis=1), "a negative size (length, width, height)", path, f"{part}_box", box[:, 3:6]
        )
        # As in labels: box sizes must be positive.
        _all((box[:, 3:6] > 0).all(axis=1), "a size of 0 (length, width, height)", path, f"{part}_box", box[:, 3:6])
        size = f"a size beyond {valid.SIZE_M:g} m"
        _all(valid.good_sizes(box[:, 3:6]), size, path, f"{part}_box", box[:, 3:6], _STRICTER)
        place = f"farther than {valid.FARTHEST_M:g} m from the vehicle"
        _all(valid.within(box[:, :3], valid.FARTHEST_M), place, path, f"{part}_box", box[:, :3], _STRICTER)
        heading = f"a heading beyond {valid.ANGLE:g} rad"
        _all(valid.within(box[:, 6], valid.ANGLE), heading, path, f"{part}_box", box[:, 6], _STRICTER)
        frame = arrays[f"{part}_frame"]
        _all(valid.within(frame, 2**62), "not the number of a frame", path, f"{part}_frame", frame)
        known = (kind >= 0) & (kind <= 4)
        _all(known, "an unknown type", path, f"{part}_type", kind, f"; known: {_KNOWN_TYPES}")
    score = arrays["pred_score"]
    _all(np.isfinite(score), "not finite", path, "pred_score", score)
    _all((score >= 0) & (score <= 1), "not from 0 to 1", path, "pred_score", score, _STRICTER)
    level = arrays["gt_difficulty"]
    unknown = "0 (unknown) must be resolved: 2 where a box holds at most 5 points, else 1"
    if (level == 0).any():
        at, count = int(np.argmax(level == 0)), int((level == 0).sum())
        raise DataError(f"row {at}, the first of {count}: {unknown}", file=path, field="gt_difficulty")
    _all(np.isin(level, (1, 2)), "neither 1 nor 2", path, "gt_difficulty", level)
    n, m = len(arrays["pred_box"]), len(arrays["gt_box"])
    return Sets(
        _sorted(arrays, "pred", arrays["pred_score"].astype(np.float32), arrays["pred_nlz"], np.zeros(n, np.int64)),
        _sorted(arrays, "gt", np.ones(m, np.float32), np.zeros(m, bool), level.astype(np.int64)),
    )


def read_arrays(path: Path) -> dict[str, Any]:
    """The arrays of `read_sets`, of the right kinds and shapes, whatever their values.

    Raises:
        DataError: see there.
    """
    return read_npz(path, _ARRAYS)


def _all(good: NDArray[np.bool_], what: str, path: Path, field: str, values: NDArray[Any], hint: str = "") -> None:
    if not good.all():
        at = int(np.argmin(good))
        raise DataError(f"row {at} is {what}: {values[at].tolist()}{hint}", file=path, field=field)


def _sorted(arrays: dict[str, Any], part: str, score: NDArray, nlz: NDArray, level: NDArray) -> Boxes:
    box = arrays[f"{part}_box"].astype(np.float64)
    kind, frame = (arrays[f"{part}_{name}"].astype(np.int64) for name in ("type", "frame"))
    return Boxes(box, kind, frame, score, nlz, level).select(np.argsort(frame, kind="stable"))
