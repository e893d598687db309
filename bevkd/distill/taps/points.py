"""Maps at the nine crucial points of every box, and cosines among them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from bevkd.distill.tap import Tap, register_tap

if TYPE_CHECKING:
    from torch import Tensor

    from bevkd.data.batch import Target
    from bevkd.distill.reading import Reading
    from bevkd.distill.sizes import Sizes

_POINTS = 9


def nine_points(reading: Reading, feature: str, legacy_transpose: bool) -> Tensor:
    """Bilinear samples (N, 9, C) of a BEV map."""
    from bevkd.distill.sampling import read_points

    maps = reading.feature(feature)
    return read_points(maps, reading.context.plan(maps, 1, legacy_transpose)).squeeze(2)


@register_tap("nine points")
@dataclass(frozen=True)
class NinePoints(Tap):
    """Samples (N, 9, C), one row per box; `legacy_transpose`: with x and y exchanged, as UniDistill's public code."""

    needs_boxes: ClassVar[bool] = True
    legacy_transpose: bool = False

    def read(self, reading: Reading) -> Target:
        """One row per box."""
        return reading.rows(nine_points(reading, self.feature, self.legacy_transpose), reading.context.boxes.frame)

    def entry_bytes(self, sizes: Sizes) -> float:
        """Nine vectors per box."""
        return 2 * sizes.boxes * _POINTS * sizes.channels(self.feature)


@register_tap("nine cosines")
@dataclass(frozen=True)
class NineCosines(Tap):
    """Cosines (N, 9, 9) among the samples of a box."""

    needs_boxes: ClassVar[bool] = True
    legacy_transpose: bool = False

    def read(self, reading: Reading) -> Target:
        """One row per box."""
        from bevkd.distill.pairwise import cosine_matrix

        points = nine_points(reading, self.feature, self.legacy_transpose)
        return reading.rows(cosine_matrix(points), reading.context.boxes.frame)

    def entry_bytes(self, sizes: Sizes) -> float:
        """81 numbers per box."""
        return 2 * sizes.boxes * _POINTS**2
