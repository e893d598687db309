"""How a data set is indexed where the rules of its format do not fit, and what becomes of the problems that are met."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from bevkd.errors import DataError

SHOWN = 10  # problems of one kind that are kept; the rest is counted


class Problems:
    """The problems of a data set: the first one is raised or, where they are collected, all are kept.

    Attributes:
        found: in the order in which they were met, at most `SHOWN` of a kind.
    """

    def __init__(self, collect: bool = False) -> None:
        self.collect = collect
        self.found: list[DataError] = []
        self._kinds: Counter[str] = Counter()

    def add(self, error: DataError) -> None:
        """Raise it, or keep it."""
        if not self.collect:
            raise error
        kind = _kind(error)
        self._kinds[kind] += 1
        if self._kinds[kind] <= SHOWN:
            self.found.append(error)

    @contextmanager
    def here(self) -> Iterator[None]:
        """Around a part that others do not depend on: where problems are collected, its first one is kept."""
        try:
            yield
        except DataError as error:
            self.add(error)

    def check(self) -> None:
        """Raise the first problem, if there is any: what follows depends on what was looked at."""
        if self.found:
            raise self.found[0]

    def lines(self) -> list[str]:
        """All of them, in words."""
        out = [str(error) for error in self.found]
        more = {kind: count - SHOWN for kind, count in self._kinds.items() if count > SHOWN}
        return out + [f"and {count} more like: {kind}" for kind, count in more.items()]


def _kind(error: DataError) -> str:
    """What is wrong, without the numbers and the place."""
    words = str(error).rpartition(" (")[0] or str(error)
    return re.sub(r"-?\d+(\.\d+)?(e[-+]?\d+)?", "#", words)


@dataclass(frozen=True)
class ConvertOptions:
    """Settings of a conversion; what is left out is as the owner of the format has it.

    Attributes:
        missing_labels: what a frame without a label file is, where labels are one file per frame: an error, or a frame
            without labels, which no training takes for a frame without objects.
        partial: single files may be missing. Whole sensors of a scene, a segment or a folder may be anyhow: they were
            not downloaded.
        point_columns: 32-bit numbers per point of a LiDAR file; none: as the format has them.
        rescale_images: images may have another size than the calibration was made for: intrinsics are scaled with them.
        categories: own category names and the classes that they count as.
        link_targets: folders outside of the root that links within it may lead to.
        problems: what becomes of them.
    """

    missing_labels: Literal["error", "unlabelled"] = "error"
    partial: bool = False
    point_columns: int | None = None
    rescale_images: bool = False
    categories: dict[str, str | None] = field(default_factory=dict)
    link_targets: tuple[str, ...] = field(default=(), compare=False)
    problems: Problems = field(default_factory=Problems, compare=False)

    def facts(self) -> dict[str, Any]:
        """What an index was made with, as far as it is not usual: for its stamp and its digest."""
        usual = ConvertOptions()
        held = {f.name: getattr(self, f.name) for f in fields(self) if f.compare}
        return {name: value for name, value in held.items() if value != getattr(usual, name)}
