"""Maps as they are, or pooled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bevkd.distill.tap import Tap, register_tap

if TYPE_CHECKING:
    from bevkd.data.batch import Target
    from bevkd.distill.reading import Reading
    from bevkd.distill.sizes import Sizes


@register_tap("map")
@dataclass(frozen=True)
class WholeMap(Tap):
    """The map (B, C, H, W), or whatever dense shape per frame the feature has."""

    def read(self, reading: Reading) -> Target:
        """One row per frame."""
        return reading.per_frame(reading.feature(self.feature).float())

    def entry_bytes(self, sizes: Sizes) -> float:
        """Every number."""
        return 2 * sizes.channels(self.feature) * sizes.cells(self.feature)


@register_tap("pooled map")
@dataclass(frozen=True)
class PooledMap(Tap):
    """The map, average-pooled to at most `longest` cells a side."""

    longest: int = 45

    def read(self, reading: Reading) -> Target:
        """One row per frame."""
        from bevkd.distill.pairwise import pool_to

        return reading.per_frame(pool_to(reading.feature(self.feature), self.longest))

    def entry_bytes(self, sizes: Sizes) -> float:
        """What is left after pooling."""
        cells = sizes.cells(self.feature)
        factor = -(-(cells**0.5) // self.longest)
        return 2 * sizes.channels(self.feature) * cells / max(1.0, factor) ** 2


@register_tap("map rows")
@dataclass(frozen=True)
class MapRows(WholeMap):
    """The map with its channels last (B, H, W, C), as the maps of the networks lie in memory: a loss over whole maps
    then runs along both at once.
    """

    def read(self, reading: Reading) -> Target:
        """One row per frame."""
        return reading.per_frame(reading.feature(self.feature).float().permute(0, 2, 3, 1).contiguous())
