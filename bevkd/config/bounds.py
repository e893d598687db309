"""Types of settings: numbers with a range, names, places and words. No field of settings is a bare number or text.

A test walks all classes of settings and refuses one that is (tests/unit/test_config_bounds.py). The ranges are wide:
they hold whatever a paper trains, and end where a machine would (threads, cells, images) or where a number has no
meaning (shares, decays, angles). Numbers that are not finite are in no range.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

from pydantic import AfterValidator, Field, StringConstraints

from bevkd.classes import LABEL_INDEX
from bevkd.errors import nearest
from bevkd.names import ENDING, NAME, PATH, PATTERN, SPLITS

MOST_CELLS = 16_384  # along a side of a map
T = TypeVar("T", bound=Sequence[Any])


def odd(value: int) -> int:
    """The value, if it is odd.

    Raises:
        ValueError: it is not.
    """
    if value % 2 == 0:
        raise ValueError(f"wants an odd number, not {value}")
    return value


def rising(values: tuple[float, ...]) -> tuple[float, ...]:
    """The values, if each is larger than the one before.

    Raises:
        ValueError: they are not.
    """
    if any(b <= a for a, b in pairwise(values)):
        raise ValueError(f"wants rising numbers, not {list(values)}")
    return values


# Counts; 0 mostly means none, or no limit.
Seed: TypeAlias = Annotated[int, Field(ge=0, le=2**32 - 1)]  # what every random generator takes
Count: TypeAlias = Annotated[int, Field(ge=0, le=10**9)]
Positive: TypeAlias = Annotated[int, Field(ge=1, le=10**9)]
Few: TypeAlias = Annotated[int, Field(ge=0, le=1_000)]  # layers, sweeps, cells of a window
Some: TypeAlias = Annotated[int, Field(ge=1, le=1_000)]
PastPlace: TypeAlias = Annotated[int, Field(ge=0, le=8)]  # in the lists of earlier images of an index
Odd: TypeAlias = Annotated[int, Field(ge=1, le=101), AfterValidator(odd)]  # side of a window (cells)
OddOrNone: TypeAlias = Literal[0] | Odd
Width: TypeAlias = Annotated[int, Field(ge=1, le=16_384)]  # channels
WidthOrNone: TypeAlias = Annotated[int, Field(ge=0, le=16_384)]
Stride: TypeAlias = Annotated[int, Field(ge=1, le=64)]
Pixels: TypeAlias = Annotated[int, Field(ge=1, le=8_192)]
Batch: TypeAlias = Annotated[int, Field(ge=1, le=4_096)]  # frames in memory at once
BatchOrNone: TypeAlias = Annotated[int, Field(ge=0, le=4_096)]
# Each is a thread or a process.
Threads: TypeAlias = Annotated[int, Field(ge=1, le=256)]
Processes: TypeAlias = Annotated[int, Field(ge=0, le=256)]

# Numbers without a unit.
Share: TypeAlias = Annotated[float, Field(ge=0, le=1)]
Decay: TypeAlias = Annotated[float, Field(ge=0, lt=1)]  # of a running mean: at 1 it would never move
Weight: TypeAlias = Annotated[float, Field(ge=0, le=1e6)]  # of a loss
Factor: TypeAlias = Annotated[float, Field(ge=1e-3, le=1e3)]
Epsilon: TypeAlias = Annotated[float, Field(gt=0, le=1)]
ClipEpsilon: TypeAlias = Annotated[float, Field(gt=0, lt=0.5)]  # both ends of [0, 1] are clipped
Score: TypeAlias = Share

# Lengths (m), angles (degrees), colours, seconds.
Length: TypeAlias = Annotated[float, Field(gt=0, le=1_000)]
Spread: TypeAlias = Annotated[float, Field(ge=0, le=1_000)]
Borders: TypeAlias = Annotated[tuple[Spread, ...], Field(min_length=2, max_length=20), AfterValidator(rising)]
Place: TypeAlias = Annotated[float, Field(ge=-1_000, le=1_000)]
Cell: TypeAlias = Annotated[float, Field(ge=0.01, le=100)]
Angle: TypeAlias = Annotated[float, Field(ge=0, le=180)]
Colour: TypeAlias = Annotated[float, Field(ge=0, le=255)]
ColourSpread: TypeAlias = Annotated[float, Field(gt=0, le=255)]
Seconds: TypeAlias = Annotated[float, Field(ge=0, le=1e9)]

# Text. Names become parts of paths and words of commands; places are paths of the user's own, words are only shown.
Name: TypeAlias = Annotated[str, StringConstraints(pattern=NAME)]
Ending: TypeAlias = Annotated[str, StringConstraints(pattern=ENDING)]  # of a name
NameOrNone: TypeAlias = Annotated[str, StringConstraints(pattern=rf"{NAME}|^$")]
SplitNames: TypeAlias = Annotated[str, StringConstraints(pattern=SPLITS)]  # joined by +
PathText: TypeAlias = Annotated[str, StringConstraints(pattern=PATH, max_length=4_096)]
Words: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x08\x0b-\x1f\x7f]*$", max_length=100_000)]
Pattern: TypeAlias = Annotated[str, StringConstraints(pattern=PATTERN)]  # a shell pattern


def distinct(values: T) -> T:
    """The values, if none is given twice.

    Raises:
        ValueError: one is.
    """
    seen: list[Any] = []
    for value in values:
        if value in seen:
            raise ValueError(f"{value!r} is given twice")
        seen.append(value)
    return values


def ordered(values: T) -> T:
    """The ends of a range, if the first is not above the last.

    Raises:
        ValueError: it is.
    """
    if values[0] > values[-1]:
        raise ValueError(f"from {values[0]!r} to {values[-1]!r} is no range")
    return values


def known_classes(names: Iterable[str]) -> Iterable[str]:
    """The names, if all are classes that some data set has.

    Raises:
        ValueError: one is not.
    """
    for name in names:
        if name not in LABEL_INDEX:
            raise ValueError(
                f"unknown class {name!r}{nearest(str(name), LABEL_INDEX)}; known: {', '.join(LABEL_INDEX)}"
            )
    return names


def check_cells(area: Any, cell: float) -> None:
    """Whether a map of these cells can be held in memory at all.

    Args:
        area: what it covers (`bevkd.geometry.Area`, m).
        cell: side of a cell (m).

    Raises:
        ValueError: it cannot.
    """
    for low, high in ((area.x_min, area.x_max), (area.y_min, area.y_max)):
        if (high - low) / cell > MOST_CELLS:
            raise ValueError(f"{high - low:g} m in cells of {cell:g} m are more than {MOST_CELLS} cells")


def apart(groups: T) -> T:
    """The groups, if they share nothing.

    Raises:
        ValueError: two of them do.
    """
    distinct([one for group in groups for one in group])
    return groups


DISTINCT = AfterValidator(distinct)
RANGE = AfterValidator(ordered)
APART = AfterValidator(apart)
KNOWN_CLASSES = AfterValidator(known_classes)
Classes: TypeAlias = Annotated[tuple[Words, ...], Field(min_length=1), KNOWN_CLASSES, DISTINCT]
