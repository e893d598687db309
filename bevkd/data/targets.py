"""What becomes of annotated boxes before a loss sees them: every filter counts what it drops."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bevkd.classes import LABELS
from bevkd.data.index import BoxTable
from bevkd.errors import DataError

_NAMES = 5  # of dropped categories that a message spells out


@dataclass(frozen=True)
class TargetCounts:
    """Boxes of the labelled frames of a split, and the first filter that drops each.

    Attributes:
        frames: labelled frames.
        boxes: annotated in them.
        unknown: category -> boxes that belong to no class.
        other: class -> boxes of classes that are not learnt.
        few_points: with fewer points than a training box must have.
        outside: outside the grid.
        usable: what is left, by class.
        min_points: the least number of points.
    """

    frames: int
    boxes: int
    unknown: dict[str, int]
    other: dict[str, int]
    few_points: int
    outside: int
    usable: dict[str, int] = field(default_factory=dict)
    min_points: int = 0

    def __str__(self) -> str:
        parts = [f"{self.boxes} boxes in {self.frames} labelled frames"]
        if self.unknown:
            parts.append(f"{sum(self.unknown.values())} of unknown category ({_named(self.unknown)})")
        if self.other:
            parts.append(f"{sum(self.other.values())} of other classes ({_named(self.other)})")
        if self.few_points:
            parts.append(f"{self.few_points} with fewer than {self.min_points} points (data.min_points)")
        if self.outside:
            parts.append(f"{self.outside} outside the grid")
        return ", ".join(parts)

    def require(self, index: Path, split: str) -> None:
        """Refuse to train where there is nothing to learn.

        Raises:
            DataError: no box is left; the message names the filters.
        """
        if self.usable:
            return
        hint = "; own category names are mapped by data.classes, {own_name: class}" if self.unknown else ""
        message = f"no usable box of data.classes in the labelled frames of split {split}: {self}{hint}"
        raise DataError(message, file=index, field=split)


def count_targets(
    table: BoxTable,
    rows: NDArray[np.int64],
    frames: int,
    *,
    of_classes: NDArray[np.bool_],
    inside: NDArray[np.bool_],
    min_points: int,
) -> TargetCounts:
    """Count what each filter drops, in the order in which they work.

    Args:
        table: annotations.
        rows: (R,) of the labelled frames.
        frames: how many these are.
        of_classes: (M,) whether a box of the table is of a class that is learnt.
        inside: (R,) whether a box lies in the grid.
        min_points: least number of points.
    """
    labels, known = table.labels[rows], of_classes[rows]
    enough = table.points[rows] >= min_points
    unknown = Counter(table.category[row] for row in rows[labels < 0].tolist())
    other = Counter(LABELS[label] for label in labels[(labels >= 0) & ~known].tolist())
    usable = Counter(LABELS[label] for label in labels[known & enough & inside].tolist())
    return TargetCounts(
        frames=frames,
        boxes=len(rows),
        unknown=dict(unknown.most_common()),
        other=dict(other.most_common()),
        few_points=int((known & ~enough).sum()),
        outside=int((known & enough & ~inside).sum()),
        usable=dict(usable.most_common()),
        min_points=min_points,
    )


def _named(counts: dict[str, int]) -> str:
    names = [name or "without a name" for name in counts]
    more = f" and {len(names) - _NAMES} more" if len(names) > _NAMES else ""
    return ", ".join(names[:_NAMES]) + more
