"""Teacher caches: what is tapped of a teacher of one seed in one set of samples, whoever learns from it.

A cache is a folder of parts, see `CachePart`, each of which holds some taps for some entries. Which taps those are is
no part of what the cache is: a row with another tap, or one that meets other samples, adds a part, and those that are
there stay as they are. Beside them lies `<audience>.json` when all is there that the rows of a paper and tier read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from torch import Tensor

from bevkd.data.batch import Boxes, StoredTargets, Target, Targets
from bevkd.distill.cache_part import CachePart, Entry, description
from bevkd.distill.tap import BOXES, Wanted
from bevkd.errors import ConfigError, DataError
from bevkd.geometry import BEVGrid

PARTS = "part_*"


def part_folders(folder: Path) -> list[Path]:
    """The parts of a cache, by name."""
    return sorted(path for path in folder.glob(PARTS) if path.is_dir())


class TeacherCache:
    """Read access to a cache.

    Attributes:
        folder: where it lies.
        parts: those of its parts that are read.
    """

    def __init__(self, folder: Path, parts: Sequence[CachePart]) -> None:
        self.folder, self.parts = folder, list(parts)

    @classmethod
    def open(cls, folder: str | Path, teacher: str | None = None) -> TeacherCache:
        """All parts of a cache.

        Args:
            folder: the cache.
            teacher: digest that the teacher must have.

        Raises:
            DamagedCacheError: a part is damaged, as far as that is seen without reading all of it, see `verify`.
            DataError: there is none, or one of another format.
            ConfigError: one was made by another teacher.
        """
        folder = Path(folder)
        found = part_folders(folder)
        if not found:
            raise DataError("no teacher cache: its parts are missing", file=folder)
        return cls(folder, [CachePart.open(path, teacher) for path in found])

    def verify(self, columns: Iterable[str] | None = None) -> None:
        """See `CachePart.verify`; of all parts."""
        for part in self.parts:
            part.verify(columns)

    def of(self, column: str) -> list[CachePart]:
        """The parts that hold a column."""
        return [part for part in self.parts if column in part.columns]

    def missing(self, asked: Mapping[str, Iterable[Entry]]) -> dict[str, list[Entry]]:
        """What of some entries of columns is not here: sorted, and only columns that lack any."""
        out = {}
        for column, entries in asked.items():
            lacking = sorted(set(entries))
            for part in self.of(column):
                lacking = part.missing(lacking)
            if lacking:
                out[column] = lacking
        return out

    def reader(self, wanted: Wanted, grid: BEVGrid, score_threshold: float) -> CacheReader:
        """Read access to the targets of a method.

        Raises:
            ConfigError: the cache was made with other taps, another grid or another threshold.
        """
        asked = description(wanted, grid, score_threshold)
        differ = [
            f"{key}: cache {part.manifest['made_for'][key]}, run {asked[key]}"
            for part in self.parts
            for key in ("grid", "score_threshold")
            if part.manifest["made_for"][key] != asked[key]
        ]
        differ += [f"no {tap}" for column, tap in asked["taps"].items() if not self.of(column)]
        differ += ["no boxes"] * (asked["boxes"] and not self.of(BOXES))
        if differ:
            raise ConfigError(f"teacher cache {self.folder} does not fit ({'; '.join(dict.fromkeys(differ))})")
        names = {name: tap.column for name, tap in wanted.taps.items()} | ({BOXES: BOXES} if wanted.boxes else {})
        return CacheReader({name: (column, self.of(column)) for name, column in names.items()})


class CacheReader:
    """The targets of one method out of a cache, frame by frame; what data workers hold.

    Args:
        columns: by the name of a target its column, and the parts that hold it.
    """

    def __init__(self, columns: Mapping[str, tuple[str, Sequence[CachePart]]]) -> None:
        self.columns = dict(columns)

    def read(self, token: str, variant: int, labelled: bool) -> dict[str, NDArray[Any]]:
        """Rows of every target, as they are stored.

        Raises:
            DataError: see `CachePart.entry`.
        """
        out = {}
        for name, (column, parts) in self.columns.items():
            part = next((part for part in parts if part.holds(token, variant)), parts[-1])
            out[name] = part.rows(column, part.entry(token, variant, labelled))
        return out


def unpacked(stored: StoredTargets) -> tuple[Targets, Boxes]:
    """Stored targets in float32 (indices int64), and the teacher's boxes on unlabelled frames."""
    found = {name: Target(_wide(target.values), target.frame) for name, target in stored.values.items()}
    rows = found.pop(BOXES, None)
    if rows is None:
        some = next(iter(stored.values.values()), None)
        return found, Boxes.empty("cpu" if some is None else some.frame.device)
    v = rows.values
    return found, Boxes(v[:, :9].contiguous(), v[:, 9].long(), rows.frame, v[:, 10].contiguous())


def _wide(values: Tensor) -> Tensor:
    return values.float() if values.is_floating_point() else values.long()
