"""`Tap`: which feature of a network a method reads, and how. Plain settings: what is tapped is known without a network.

A way of reading is one small frozen dataclass in `bevkd/distill/taps/`, registered as `tap`; its fields are options.
A teacher cache holds taps of the teacher, each by itself, so that methods which tap the same share it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import MISSING, Field, dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from bevkd.io import digest
from bevkd.registry import register

if TYPE_CHECKING:
    from bevkd.data.batch import Target
    from bevkd.distill.masks import Cells
    from bevkd.distill.reading import Reading
    from bevkd.distill.sizes import Sizes

T = TypeVar("T", bound=type)
BOXES = "boxes"  # the column of a teacher cache that holds the teacher's boxes on unlabelled frames


class Described:
    """A choice with options, that has a name and can be written down.

    Attributes:
        kind: its name.
        edition: counted up when what it reads, or a default of its options, changes: what was stored is then another.
    """

    kind: ClassVar[str] = ""
    edition: ClassVar[int] = 1

    @property
    def key(self) -> dict[str, Any]:
        """What it is, as JSON-like data: its edition if it is not the first, and its options as far as they differ from
        the defaults, so that an option that is new in the code changes nothing.
        """
        edition = {"edition": self.edition} if self.edition != 1 else {}
        return (
            {"kind": self.kind}
            | edition
            | {f.name: _plain(value) for f, value in self._options() if _differs(f, value)}
        )

    @property
    def edited(self) -> bool:
        """Whether it, or one of its options, is not of the first edition."""
        return self.edition != 1 or any(isinstance(value, Described) and value.edited for _, value in self._options())

    def _options(self) -> list[tuple[Field[Any], Any]]:
        return [(f, getattr(self, f.name)) for f in fields(self) if f.compare]  # type: ignore[arg-type]


def _plain(value: Any) -> Any:
    if isinstance(value, Described):
        return value.key
    return list(value) if isinstance(value, tuple) else value


def _differs(f: Field[Any], value: Any) -> bool:
    default = f.default_factory() if f.default_factory is not MISSING else f.default
    return value != default or (isinstance(value, Described) and value.edited)


@dataclass(frozen=True)
class Cellset(Described):
    """A choice of cells of a map, which taps read. Options that do not compare equal are no part of what it is."""

    feature: ClassVar[str] = ""  # what of the network decides them; "": nothing, boxes alone do
    needs_boxes: ClassVar[bool] = True

    def find(self, reading: Reading) -> Cells:
        """The cells; `Reading.cells` remembers them for all taps of a batch."""
        raise NotImplementedError

    def count(self, sizes: Sizes) -> float:
        """About how many they are per frame."""
        raise NotImplementedError


@dataclass(frozen=True)
class Tap(Described):
    """Base class of taps.

    Attributes:
        feature: name of a feature of the network, see `FeatureSpec`; "": none, boxes are all it takes.
        needs_boxes: whether it reads at boxes, which on unlabelled frames are the teacher's.
    """

    feature: str = ""
    needs_boxes: ClassVar[bool] = False

    @property
    def features(self) -> frozenset[str]:
        """What of the network has to be there."""
        return frozenset({self.feature} - {""})

    def at_boxes(self) -> bool:
        """Whether boxes have to be there."""
        return self.needs_boxes

    def read(self, reading: Reading) -> Target:
        """The values, of any precision, as a ragged array."""
        raise NotImplementedError

    def entry_bytes(self, sizes: Sizes) -> float:
        """About how many bytes of a cache the values of one frame take: 2 per number, 4 per index."""
        raise NotImplementedError

    @property
    def column(self) -> str:
        """Its name within a teacher cache."""
        words = re.sub(r"\W+", "_", f"{self.kind}_{self.feature}".strip("_"))
        return f"{words}_{digest(self.key)[:8]}"


@dataclass(frozen=True)
class CellTap(Tap):
    """Base class of taps that read at a choice of cells."""

    cells: Cellset = Cellset()

    @property
    def features(self) -> frozenset[str]:
        """What of the network has to be there."""
        return frozenset({self.feature, self.cells.feature} - {""})

    def at_boxes(self) -> bool:
        """Whether boxes have to be there."""
        return self.cells.needs_boxes


def register_tap(kind: str) -> Callable[[T], T]:
    """Class decorator that names a tap or a choice of cells."""

    def add(cls: T) -> T:
        cls.kind = kind  # type: ignore[attr-defined]
        return register("tap" if issubclass(cls, Tap) else "cellset", kind)(cls)

    return add


@dataclass(frozen=True)
class Wanted:
    """What is wanted of a teacher.

    Attributes:
        taps: by the names of the targets.
        boxes: whether its boxes stand in for annotations on unlabelled frames.
    """

    taps: dict[str, Tap]
    boxes: bool

    @property
    def features(self) -> frozenset[str]:
        """What of the network has to be there, but for the boxes."""
        return frozenset[str]().union(*(tap.features for tap in self.taps.values()))

    @property
    def key(self) -> dict[str, Any]:
        """What it is, whatever the targets are called."""
        return {"taps": sorted((tap.key for tap in self.taps.values()), key=str), "boxes": self.boxes}

    @property
    def columns(self) -> tuple[str, ...]:
        """Where a teacher cache holds it, each column once."""
        names = dict.fromkeys(tap.column for tap in self.taps.values())
        return (*names, *([BOXES] if self.boxes else []))


def as_columns(taps: Iterable[Tap], boxes: bool) -> Wanted:
    """Taps under the names that they have in a cache, each once."""
    named = {tap.column: tap for tap in taps}
    return Wanted(dict(sorted(named.items())), boxes or any(tap.at_boxes() for tap in named.values()))


def together(parts: Iterable[Wanted]) -> Wanted:
    """What several want, under the names that it has in a cache."""
    parts = list(parts)
    return as_columns((tap for part in parts for tap in part.taps.values()), any(part.boxes for part in parts))
