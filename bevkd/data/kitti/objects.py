"""KITTI label and result files: one object per line, columns as in the benchmark's description.

    type truncated occluded alpha  x1 y1 x2 y2  height width length  x y z  rotation_y  [score]

Boxes of the image are pixels; sizes and places are metres in the rectified camera frame (x right, y down, z forward),
a place being the middle of the bottom face; angles are radians.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bevkd.errors import DataError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# Names are compared without regard to case. The metrics look at the first six only.
TYPES = ("car", "pedestrian", "cyclist", "van", "person_sitting", "dontcare", "truck", "tram", "misc")
OTHER = len(TYPES)
COLUMNS = (
    *("type", "truncated", "occluded", "alpha", "x1", "y1", "x2", "y2"),
    *("height", "width", "length", "x", "y", "z", "rotation_y", "score"),
)
NO_PLACE = -1000.0  # x, y and z of objects that are known in the image alone; their sizes are -1
NO_ANGLE = -10.0  # alpha of detections without orientation


@dataclass(frozen=True)
class Objects:
    """Objects of many frames, by frame, then as in the file.

    Attributes:
        frame: (N,) index of the frame.
        kind: (N,) index into `TYPES`, or `OTHER`.
        values: (N, 15) the columns after the type; score is 0 in labels.
    """

    frame: Ints
    kind: Ints
    values: Floats

    def __len__(self) -> int:
        return len(self.frame)

    def column(self, name: str) -> Floats:
        """One column (N,) by its name."""
        return self.values[:, COLUMNS.index(name) - 1]

    def select(self, keep: NDArray) -> Objects:
        """The objects chosen by a mask or by indices."""
        return Objects(self.frame[keep], self.kind[keep], self.values[keep])


def placed(objects: Objects) -> NDArray[np.bool_]:
    """Objects that have a place in 3D (N,); regions of no care have none."""
    return np.asarray(objects.column("x") != NO_PLACE)


def read_folder(folder: str | Path, frames: Sequence[str], *, scored: bool) -> Objects:
    """Read `<folder>/<frame>.txt` of every frame.

    Args:
        folder: of the files.
        frames: names of the frames, such as "000123".
        scored: result files, with a score in a sixteenth column.

    Raises:
        DataError: a file is missing or unreadable; a line has another number of columns, a value that is not a finite
            number, or a box of negative size. The message names file, line and column.
    """
    index, kinds, rows = [], [], []
    known = {name: i for i, name in enumerate(TYPES)}
    for i, frame in enumerate(frames):
        path = Path(folder) / f"{frame}.txt"
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"cannot be read: {error}", file=path, token=frame) from error
        for number, line in enumerate(lines, start=1):
            words = line.split()
            if words:
                rows.append(_row(words, scored, path, number, frame))
                kinds.append(known.get(words[0].lower(), OTHER))
                index.append(i)
    values = np.array(rows, dtype=np.float64).reshape(-1, len(COLUMNS) - 1)
    return Objects(np.array(index, dtype=np.int64), np.array(kinds, dtype=np.int64), values)


def _row(words: list[str], scored: bool, path: Path, line: int, frame: str) -> list[float]:
    expected = len(COLUMNS) - (not scored)
    if len(words) != expected:
        what = {
            expected - 1: ": a result ends with its score" * scored,
            expected + 1: ": a label has no score" * (not scored),
        }
        hint = what.get(len(words), "")
        raise DataError(f"line {line} has {len(words)} columns, not {expected}{hint}", file=path, token=frame)
    row = []
    for name, word in zip(COLUMNS[1:], words[1:], strict=False):
        try:
            row.append(float(word))
        except ValueError:
            raise DataError(f"line {line}: {word!r} is not a number", file=path, token=frame, field=name) from None
    for name in _negative(row):
        raise DataError(f"line {line}: negative size", file=path, token=frame, field=name)
    for name, value in zip(COLUMNS[1:], row, strict=False):
        if not np.isfinite(value):
            raise DataError(f"line {line}: {value} is not finite", file=path, token=frame, field=name)
    return row if scored else [*row, 0.0]


def _negative(row: list[float]) -> Iterable[str]:
    """Columns that make a box of negative size. Without a place (see `NO_PLACE`) there is no box in 3D."""
    value = dict(zip(COLUMNS[1:], row, strict=False))
    if value["x2"] < value["x1"]:
        yield "x2"
    if value["y2"] < value["y1"]:
        yield "y2"
    if value["x"] != NO_PLACE:
        yield from (name for name in ("height", "width", "length") if value[name] < 0)
