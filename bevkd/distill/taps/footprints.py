"""Cells under the footprints of boxes, as CRKD takes them: boxes that grow with their range and speed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from bevkd.distill.tap import Cellset, Tap, register_tap
from bevkd.distill.taps.cells import CellValues
from bevkd.distill.taps.maps import WholeMap

if TYPE_CHECKING:
    from torch import Tensor

    from bevkd.data.batch import Target
    from bevkd.distill.masks import Cells
    from bevkd.distill.reading import Reading
    from bevkd.distill.sizes import Sizes

Shape = Literal["scaled_box", "box", "gaussian"]
Geometry = Literal["rotated", "axis_aligned_hull", "code"]
VelocityFrame = Literal["lidar", "box"]
# Stands for a value of the teacher that is not a number, which a cache does not hold: the least number of float16.
NOT_A_NUMBER = -65504.0


@register_tap("footprints")
@dataclass(frozen=True)
class Footprints(Cellset):
    """Cells under boxes, all of weight 1, or under Gaussians of the grown boxes, with their heights.

    Attributes:
        shape: grown boxes, boxes as they are, or a Gaussian for each grown box.
        geometry: of boxes: cells whose centre lies in the rotated rectangle or in its hull along the axes, or the cells
            that CRKD's public code takes, see `bevkd.distill.scaled_boxes.code_rectangles`.
        velocity_frame: whether the growth along and across a box goes by the velocity along x and y, or by its
            components in the frame of the box.
        r1, r2: ranges (m) between which a box grows by `alpha` of its size; beyond, by `beta`.
        v1, v2: the same for speeds (m/s).
        alpha, beta: growth, as a share of the size.
        least, most: growth (m) is clipped to these.
    """

    shape: Shape = "scaled_box"
    geometry: Geometry = "rotated"
    velocity_frame: VelocityFrame = "lidar"
    r1: float = 20.0
    r2: float = 30.0
    v1: float = 0.3
    v2: float = 0.8
    alpha: float = 0.25
    beta: float = 0.5
    least: float = 0.5
    most: float = 4.0

    def find(self, reading: Reading) -> Cells:
        """Cells sorted by frame."""
        from bevkd.distill.masks import cells_of
        from bevkd.distill.scaled_boxes import footprint_mask

        c = reading.context
        return cells_of(footprint_mask(c.boxes, c.grid, c.batch_size, self))

    def count(self, sizes: Sizes) -> float:
        """A few per box; a grown one has about twice the area."""
        return sizes.boxes * sizes.box_cells * (1 if self.shape == "box" else 2)


def _marked(values: Tensor) -> Tensor:
    import torch

    return torch.nan_to_num(values.float(), nan=NOT_A_NUMBER, posinf=torch.inf, neginf=-torch.inf)


@register_tap("marked cell values")
@dataclass(frozen=True)
class MarkedCellValues(CellValues):
    """A BEV map (n, C) at the cells, with `NOT_A_NUMBER` where it is not a number."""

    cells: Cellset = Footprints()

    def read(self, reading: Reading) -> Target:
        """One row per cell."""
        target = super().read(reading)
        return reading.rows(_marked(target.values), target.frame)


@register_tap("marked map")
@dataclass(frozen=True)
class MarkedMap(WholeMap):
    """A map (B, C, H, W), with `NOT_A_NUMBER` where it is not a number."""

    def read(self, reading: Reading) -> Target:
        """One row per frame."""
        return reading.per_frame(_marked(reading.feature(self.feature)))


@register_tap("resized map")
@dataclass(frozen=True)
class ResizedMap(Tap):
    """A map at `size` x `size` cells (B, C, size, size), bilinear between cell centres, whatever its shape was."""

    needs_boxes: ClassVar[bool] = False
    size: int = 32

    def read(self, reading: Reading) -> Target:
        """One row per frame."""
        from bevkd.distill.relation_maps import resized

        return reading.per_frame(resized(reading.feature(self.feature), self.size))

    def entry_bytes(self, sizes: Sizes) -> float:
        """Every number."""
        return 2 * sizes.channels(self.feature) * self.size**2
