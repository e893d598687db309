"""Predictions and annotations of many frames as flat arrays: what the Waymo metrics read."""

from __future__ import annotations

import lzma
import math
import struct
import tokenize
import zipfile
import zlib
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as format_
from numpy.typing import NDArray

from bevkd import regular
from bevkd.data import valid
from bevkd.errors import DataError
from bevkd.io import reading

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

TYPES = {"VEHICLE": 1, "PEDESTRIAN": 2, "SIGN": 3, "CYCLIST": 4}
_KNOWN_TYPES = ", ".join(["0 unknown", *(f"{number} {name.lower()}" for name, number in TYPES.items())])
# Kind of an array's numbers -> NumPy's letters for it.
_KINDS = {"float": "f", "integer": "iu", "bool": "b"}
_ARTICLE = {"float": "a", "integer": "an", "bool": "a"}
_STRICTER = " (the official metric lets this pass)"
# What damaged archives and headers of arrays raise.
_BROKEN = (
    *(OSError, ValueError, EOFError, RuntimeError, TypeError, LookupError, SyntaxError, ArithmeticError, MemoryError),
    *(struct.error, tokenize.TokenError, zipfile.BadZipFile, zlib.error, lzma.LZMAError),
)
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
    arrays: dict[str, Any] = {}
    with reading(path), regular.open_regular(path, regular.TABLE) as stream:
        if not zipfile.is_zipfile(stream):
            raise DataError("cannot be read as .npz, which np.savez(FILE, pred_box=...) writes", file=path)
        try:
            with zipfile.ZipFile(stream) as archive:
                held = [name.removesuffix(".npy") for name in archive.namelist()]
                missing = [name for name, *_ in _ARRAYS if name not in held]
                if missing:
                    has = ", ".join(held) or "none"
                    raise DataError(f"no such array: {', '.join(missing)}; it holds {has}", file=path, field=missing[0])
                for name, kind, columns in _ARRAYS:
                    arrays[name] = _array(archive, name, kind, columns, path)
        except _BROKEN as error:
            raise DataError(f"cannot be read: {error}", file=path) from error
    for name, kind, columns in _ARRAYS:
        array, boxes = arrays[name], f"{name.split('_')[0]}_box"
        if array.dtype.kind not in _KINDS[kind] or array.ndim != (2 if columns else 1):
            raise DataError(_wanted(name, kind, columns, array), file=path, field=name)
        if (columns and array.shape[1] != columns) or len(array) != len(arrays[boxes]):
            rows = f", N = {len(arrays[boxes])} as of {boxes}" if name != boxes else ""
            raise DataError(_wanted(name, kind, columns, array) + rows, file=path, field=name)
    return arrays


def _array(archive: zipfile.ZipFile, name: str, kind: str, columns: int, path: Path) -> Any:
    """An array of which the header says no more than there is: a few bytes of an archive can be many gigabytes."""
    entry = next(one for one in archive.infolist() if one.filename.removesuffix(".npy") == name)
    if entry.file_size > regular.DOCUMENT:
        raise DataError(f"{name} has {entry.file_size} bytes, more than {regular.DOCUMENT}", file=path, field=name)
    content = BytesIO(archive.read(entry))
    try:
        version = format_.read_magic(content)
        read = {(1, 0): format_.read_array_header_1_0, (2, 0): format_.read_array_header_2_0}.get(version)
        if read is None:
            raise ValueError(f"version {version} of the format is not known")
        shape, fortran, dtype = read(content)
        if dtype.hasobject:
            raise DataError(_wanted(name, kind, columns, None), file=path, field=name)
        values = content.read()
        if len(values) != math.prod(shape) * dtype.itemsize:
            raise ValueError(f"{len(values)} bytes do not make an array {shape} of {dtype}")
        return np.frombuffer(values, dtype=dtype).reshape(shape, order="F" if fortran else "C")
    except _BROKEN as error:
        raise DataError(f"cannot be read: {error}", file=path, field=name) from error


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
