"""Predictions and annotations of many frames as flat arrays: what the Waymo metrics read."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bevkd.errors import DataError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

TYPES = {"VEHICLE": 1, "PEDESTRIAN": 2, "SIGN": 3, "CYCLIST": 4}
# Array, kind of its numbers, columns (0: none).
_ARRAYS = (
    *(("pred_box", "f", 7), ("pred_type", "iu", 0), ("pred_frame", "iu", 0), ("pred_score", "f", 0)),
    *(("pred_nlz", "b", 0), ("gt_box", "f", 7), ("gt_type", "iu", 0), ("gt_frame", "iu", 0)),
    ("gt_difficulty", "iu", 0),
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
            others, or holds a value that cannot be: not finite, a negative size, an unknown type or level.
    """
    path = Path(path)
    arrays: dict[str, Any] = {}
    try:
        with np.load(path, allow_pickle=False) as archive:
            for name, _, _ in _ARRAYS:
                if name not in archive:
                    raise DataError("no such array", file=path, field=name)
                arrays[name] = archive[name]
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"cannot be read: {error}", file=path) from error
    for name, kinds, columns in _ARRAYS:
        array, length = arrays[name], len(arrays[f"{name.split('_')[0]}_box"])
        if array.dtype.kind not in kinds or array.shape != ((length, columns) if columns else (length,)):
            raise DataError(f"an array {array.dtype} of shape {array.shape} is none", file=path, field=name)
    for part in ("pred", "gt"):
        box = arrays[f"{part}_box"]
        _all(np.isfinite(box).all(axis=1), "not finite", path, f"{part}_box")
        _all((box[:, 3:6] >= 0).all(axis=1), "a negative size", path, f"{part}_box")
        _all((arrays[f"{part}_type"] >= 0) & (arrays[f"{part}_type"] <= 4), "an unknown type", path, f"{part}_type")
    _all(np.isfinite(arrays["pred_score"]), "not finite", path, "pred_score")
    _all(np.isin(arrays["gt_difficulty"], (1, 2)), "neither 1 nor 2", path, "gt_difficulty")
    n, m = len(arrays["pred_box"]), len(arrays["gt_box"])
    return Sets(
        _sorted(arrays, "pred", arrays["pred_score"].astype(np.float32), arrays["pred_nlz"], np.zeros(n, np.int64)),
        _sorted(arrays, "gt", np.ones(m, np.float32), np.zeros(m, bool), arrays["gt_difficulty"].astype(np.int64)),
    )


def _all(good: NDArray[np.bool_], what: str, path: Path, field: str) -> None:
    if not good.all():
        raise DataError(f"row {int(np.argmin(good))} is {what}", file=path, field=field)


def _sorted(arrays: dict[str, Any], part: str, score: NDArray, nlz: NDArray, level: NDArray) -> Boxes:
    box = arrays[f"{part}_box"].astype(np.float64)
    kind, frame = (arrays[f"{part}_{name}"].astype(np.int64) for name in ("type", "frame"))
    return Boxes(box, kind, frame, score, nlz, level).select(np.argsort(frame, kind="stable"))
