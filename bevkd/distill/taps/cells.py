"""Maps at chosen cells: under Gaussian peaks, inside boxes, wherever a `Cellset` says."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bevkd.distill.tap import Cellset, CellTap, register_tap

if TYPE_CHECKING:
    from bevkd.data.batch import Target
    from bevkd.distill.masks import Cells
    from bevkd.distill.reading import Reading
    from bevkd.distill.sizes import Sizes


@register_tap("gaussian mask")
@dataclass(frozen=True)
class GaussianMask(Cellset):
    """Cells under UniDistill's Gaussian peaks, with the height of the peaks there.

    Attributes:
        min_overlap, min_radius: of the peaks.
        counted: whether only these cells will do. Where not, a step on an accelerator that must not wait for their
            number takes all cells, those outside with weight 0.
    """

    min_overlap: float = 0.7
    min_radius: int = 0
    counted: bool = field(default=False, compare=False)

    def find(self, reading: Reading) -> Cells:
        """Cells sorted by frame."""
        from bevkd.distill.masks import cells_of, gaussian_mask

        c = reading.context
        mask = gaussian_mask(c.boxes, c.grid, c.batch_size, self.min_overlap, self.min_radius)
        return cells_of(mask, every=not (c.compact or self.counted))

    def count(self, sizes: Sizes) -> float:
        """A few per box."""
        return sizes.boxes * sizes.peak_cells


@register_tap("box mask")
@dataclass(frozen=True)
class BoxMask(Cellset):
    """Cells whose centre lies in a box, and the cell of every box centre."""

    def find(self, reading: Reading) -> Cells:
        """Cells sorted by frame."""
        from bevkd.distill.masks import box_mask, cells_of

        c = reading.context
        return cells_of(box_mask(c.boxes, c.grid, c.batch_size))

    def count(self, sizes: Sizes) -> float:
        """A few per box."""
        return sizes.boxes * sizes.box_cells


@register_tap("cell index")
@dataclass(frozen=True)
class CellIndex(CellTap):
    """Which cells (n,), as the choice numbers them within a frame."""

    def read(self, reading: Reading) -> Target:
        """One row per cell."""
        cells = reading.cells(self.cells)
        return reading.rows(cells.cell, cells.frame)

    def entry_bytes(self, sizes: Sizes) -> float:
        """An index per cell."""
        return 4 * self.cells.count(sizes)


@register_tap("cell weight")
@dataclass(frozen=True)
class CellWeight(CellTap):
    """The weights (n,) of the cells."""

    def read(self, reading: Reading) -> Target:
        """One row per cell."""
        cells = reading.cells(self.cells)
        return reading.rows(cells.weight, cells.frame)

    def entry_bytes(self, sizes: Sizes) -> float:
        """A number per cell."""
        return 2 * self.cells.count(sizes)


@register_tap("cell values")
@dataclass(frozen=True)
class CellValues(CellTap):
    """A BEV map (n, C) at the cells."""

    def read(self, reading: Reading) -> Target:
        """One row per cell."""
        return reading.at(self.feature, self.cells)

    def entry_bytes(self, sizes: Sizes) -> float:
        """A vector per cell."""
        return 2 * self.cells.count(sizes) * sizes.channels(self.feature)
