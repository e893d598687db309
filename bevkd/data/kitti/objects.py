"""KITTI label and result files: one object per line, columns as in the benchmark's description.

    type truncated occluded alpha  x1 y1 x2 y2  height width length  x y z  rotation_y  [score]

Boxes of the image are pixels; sizes and places are metres in the rectified camera frame (x right, y down, z forward),
a place being the middle of the bottom face; angles are radians.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bevkd.data import valid
from bevkd.errors import DataError
from bevkd.io import read_text

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
_OF_LABELS = ("truncated", "occluded")  # -1 where nobody said
_BOUNDS: dict[str, tuple[float, float]] = {
    "truncated": (-1.0, 1.0),
    "occluded": (-1.0, 3.0),
    **dict.fromkeys(("alpha", "rotation_y"), (-valid.ANGLE, valid.ANGLE)),
    **dict.fromkeys(("x1", "y1", "x2", "y2"), (-valid.PLACE_PX, valid.PLACE_PX)),
    **dict.fromkeys(("height", "width", "length"), (-valid.SIZE_M, valid.SIZE_M)),
    **dict.fromkeys(("x", "y", "z"), (-valid.FARTHEST_M, valid.FARTHEST_M)),
}


@dataclass(frozen=True)
class Objects:
    """Objects of many frames, by frame, then as in the file.

    Attributes:
        frame: (N,) index of the frame.
        kind: (N,) index into `TYPES`, or `OTHER`.
        values: (N, 15) the columns after the type; score is 0 in labels.
        words: (N,) the types as the files spell them; none where that is not known.
    """

    frame: Ints
    kind: Ints
    values: Floats
    words: NDArray[np.object_] | None = None

    def __len__(self) -> int:
        return len(self.frame)

    def column(self, name: str) -> Floats:
        """One column (N,) by its name."""
        return self.values[:, COLUMNS.index(name) - 1]

    def select(self, keep: NDArray) -> Objects:
        """The objects chosen by a mask or by indices."""
        words = None if self.words is None else self.words[keep]
        return Objects(self.frame[keep], self.kind[keep], self.values[keep], words)


def placed(objects: Objects) -> NDArray[np.bool_]:
    """Objects that have a place in 3D (N,); regions of no care have none."""
    return np.asarray(objects.column("x") != NO_PLACE)


def read_folder(
    folder: str | Path,
    frames: Sequence[str],
    *,
    scored: bool,
    categories: Mapping[str, str | None] | None = None,
) -> Objects:
    """Read `<folder>/<frame>.txt` of every frame.

    Args:
        folder: of the files.
        frames: names of the frames, such as "000123".
        scored: result files, with a score in a sixteenth column.
        categories: own types and the types that they count as; none: types that are passed over.

    Raises:
        DataError: a file is missing or unreadable; a line has another number of columns, a value that is not a finite
            number within its bounds, or a box whose size is not positive. The message names file, line and column, and
            of results what the official evaluator does not look at.
    """
    index, kinds, rows, types = [], [], [], []
    known = {name: i for i, name in enumerate(TYPES)}
    known |= {name.lower(): known.get(label or "", OTHER) for name, label in (categories or {}).items()}
    what = f"cannot be read: the file of {'results' if scored else 'labels'}"
    for i, frame in enumerate(frames):
        path = Path(folder) / f"{frame}.txt"
        for number, line in enumerate(read_text(path, what, token=frame).split("\n"), start=1):
            words = line.split()
            if words:
                rows.append(_row(words, scored, path, number, frame))
                kinds.append(known.get(words[0].lower(), OTHER))
                types.append(words[0])
                index.append(i)
    values = np.array(rows, dtype=np.float64).reshape(-1, len(COLUMNS) - 1)
    spelt = np.array(types, dtype=object)
    return Objects(np.array(index, dtype=np.int64), np.array(kinds, dtype=np.int64), values, spelt)


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
            row.append(valid.number(word))
        except ValueError as error:
            raise DataError(f"line {line}: {error}", file=path, token=frame, field=name) from None
    for name, problem in (*_sizes(row), *_beyond(row, scored)):
        also = "; the official evaluator does not look" if scored else ""
        raise DataError(f"line {line}: {problem}{also}", file=path, token=frame, field=name)
    return row if scored else [*row, 0.0]


def _beyond(row: list[float], scored: bool) -> Iterable[tuple[str, str]]:
    """Columns with a value that is out of what they can hold, and what is wrong.

    The benchmark passes over what results say of truncation and occlusion.
    """
    value = dict(zip(COLUMNS[1:], row, strict=False))
    for name, (least, most) in _BOUNDS.items():
        if not least <= value[name] <= most and not (scored and name in _OF_LABELS):
            yield name, f"{value[name]:g} is not from {least:g} to {most:g}"
    if not scored and value["occluded"] != int(value["occluded"]):
        yield "occluded", f"{value['occluded']:g} is not a whole number"


def _sizes(row: list[float]) -> Iterable[tuple[str, str]]:
    """Columns that make a box without a size, and what is wrong. Without a place (see `NO_PLACE`) it has none in 3D."""
    value = dict(zip(COLUMNS[1:], row, strict=False))
    for low, high in (("x1", "x2"), ("y1", "y2")):
        if value[high] < value[low]:
            yield high, f"negative size: {high} is less than {low}"
    if value["x"] != NO_PLACE:
        for name in ("height", "width", "length"):
            if value[name] <= 0:
                what = "negative size: " if value[name] < 0 else ""
                yield name, f"{what}box sizes must be positive (x is {NO_PLACE:g} where there is no box in 3D)"
