"""Predictions and annotations of many frames as flat arrays: what the Waymo metrics read."""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bevkd.errors import DataError
from bevkd.io import reading

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

TYPES = {"VEHICLE": 1, "PEDESTRIAN": 2, "SIGN": 3, "CYCLIST": 4}
_KNOWN_TYPES = ", ".join(["0 unknown", *(f"{number} {name.lower()}" for name, number in TYPES.items())])
# Kind of an array's numbers -> NumPy's letters for it.
_KINDS = {"float": "f", "integer": "iu", "bool": "b"}
_ARTICLE = {"float": "a", "integer": "an", "bool": "a"}
# Array, kind of its numbers, columns (0: none).
_ARRAYS = (
    *(("pred_box", "float", 7), ("pred_type", "integer", 0), ("pred_frame", "integer", 0)),
    *(("pred_score", "float", 0), ("pred_nlz", "bool", 0)),
    *(("gt_box", "float", 7), ("gt_type", "integer", 0), ("gt_frame", "integer", 0)),
    ("gt_difficulty", "integer", 0),
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
        known = (kind >= 0) & (kind <= 4)
        _all(known, "an unknown type", path, f"{part}_type", kind, f"; known: {_KNOWN_TYPES}")
    _all(np.isfinite(arrays["pred_score"]), "not finite", path, "pred_score", arrays["pred_score"])
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
    arrays: dict[str, Any] = {}
    try:
        with reading(path), open(path, "rb") as stream:
            if not zipfile.is_zipfile(stream):
                raise DataError("cannot be read as .npz, which np.savez(FILE, pred_box=...) writes", file=path)
        with np.load(path, allow_pickle=False) as archive:
            missing = [name for name, *_ in _ARRAYS if name not in archive]
            if missing:
                held = ", ".join(archive.files) or "none"
                raise DataError(f"no such array: {', '.join(missing)}; it holds {held}", file=path, field=missing[0])
            for name, kind, columns in _ARRAYS:
                arrays[name] = _array(archive, name, kind, columns, path)
    except (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"cannot be read: {error}", file=path) from error
    for name, kind, columns in _ARRAYS:
        array, boxes = arrays[name], f"{name.split('_')[0]}_box"
        if array.dtype.kind not in _KINDS[kind] or array.ndim != (2 if columns else 1):
            raise DataError(_wanted(name, kind, columns, array), file=path, field=name)
        if (columns and array.shape[1] != columns) or len(array) != len(arrays[boxes]):
            rows = f", N = {len(arrays[boxes])} as of {boxes}" if name != boxes else ""
            raise DataError(_wanted(name, kind, columns, array) + rows, file=path, field=name)
    return arrays


def _array(archive: Any, name: str, kind: str, columns: int, path: Path) -> Any:
    try:
        return archive[name]
    except ValueError as error:
        if "Object arrays" not in str(error):
            raise DataError(f"cannot be read: {error}", file=path, field=name) from error
        raise DataError(_wanted(name, kind, columns, None), file=path, field=name) from error


def _wanted(name: str, kind: str, columns: int, array: Any) -> str:
    """Which array is wanted, and which one is there; None: one of Python objects."""
    shape = f"(N, {columns})" if columns else "(N,)"
    if array is None:
        found = "one of Python objects"
    elif array.dtype.kind in _KINDS[kind]:
        found = f"of shape {array.shape}"
    else:
        right = array.ndim == (2 if columns else 1) and (not columns or array.shape[1] == columns)
        found = str(array.dtype) + ("" if right else f" of shape {array.shape}")
    return f"{name} must be {_ARTICLE[kind]} {kind} array of shape {shape}, not {found}"


def _all(good: NDArray[np.bool_], what: str, path: Path, field: str, values: NDArray[Any], hint: str = "") -> None:
    if not good.all():
        at = int(np.argmin(good))
        raise DataError(f"row {at} is {what}: {values[at].tolist()}{hint}", file=path, field=field)


def _sorted(arrays: dict[str, Any], part: str, score: NDArray, nlz: NDArray, level: NDArray) -> Boxes:
    box = arrays[f"{part}_box"].astype(np.float64)
    kind, frame = (arrays[f"{part}_{name}"].astype(np.int64) for name in ("type", "frame"))
    return Boxes(box, kind, frame, score, nlz, level).select(np.argsort(frame, kind="stable"))
