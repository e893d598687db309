"""`BEVGrid`: the single place where world coordinates meet cells of a dense BEV map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # the geometry itself needs no torch, and what only evaluates or converts starts without it
    import torch
    from torch import Tensor


class Area(NamedTuple):
    """A rectangle of the ground in the ego frame (m)."""

    x_min: float
    x_max: float
    y_min: float
    y_max: float

    def holds(self, xy: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
        """Which points (N, 2+) lie inside; edges belong to it."""
        x, y = xy[:, 0], xy[:, 1]
        return np.asarray((x >= self.x_min) & (x <= self.x_max) & (y >= self.y_min) & (y <= self.y_max))


@dataclass(frozen=True)
class BEVGrid:
    """A BEV grid in the ego frame: maps are `(B, C, H, W)` with H = y and W = x.

    Cell `(iy, ix)` covers `[x_min + ix * cell, x_min + (ix + 1) * cell)` and the same for y, so that continuous
    cell coordinates are edge based: the centre of a cell lies at integer + 0.5.

    Attributes:
        x_min, y_min: lower corner (m).
        cell: cell size (m).
        W, H: number of cells along x and along y.
    """

    x_min: float
    y_min: float
    cell: float
    W: int
    H: int

    @classmethod
    def over(cls, area: Area, cell: float) -> BEVGrid:
        """Grid over an area.

        Raises:
            ValueError: a side is not a positive multiple of `cell`.
        """
        counts = []
        for low, high in ((area.x_min, area.x_max), (area.y_min, area.y_max)):
            n = round((high - low) / cell)
            if n < 1 or abs(n * cell - (high - low)) > 1e-6 * abs(high - low):
                raise ValueError(f"a grid of {high - low} m cannot be cut into cells of {cell} m")
            counts.append(n)
        return cls(area.x_min, area.y_min, cell, *counts)

    @classmethod
    def centred(cls, reach: float, cell: float) -> BEVGrid:
        """Square grid over [-reach, reach) metres.

        Raises:
            ValueError: `2 * reach` is not a multiple of `cell`.
        """
        return cls.over(Area(-reach, reach, -reach, reach), cell)

    @property
    def x_max(self) -> float:
        """Upper edge along x (m)."""
        return self.x_min + self.W * self.cell

    @property
    def y_max(self) -> float:
        """Upper edge along y (m)."""
        return self.y_min + self.H * self.cell

    def scaled(self, stride: int) -> BEVGrid:
        """The grid over the same area whose cells are `stride` times larger."""
        return BEVGrid(self.x_min, self.y_min, self.cell * stride, self.W // stride, self.H // stride)

    def refined(self, factor: int) -> BEVGrid:
        """The grid over the same area whose cells are `factor` times smaller."""
        return BEVGrid(self.x_min, self.y_min, self.cell / factor, self.W * factor, self.H * factor)

    def to_cells(self, xy: Tensor) -> Tensor:
        """World coordinates (..., 2) in metres to continuous cell coordinates `(u, v)` (..., 2): u along W."""
        origin = xy.new_tensor([self.x_min, self.y_min])
        return (xy - origin) / self.cell

    def to_world(self, uv: Tensor) -> Tensor:
        """Continuous cell coordinates `(u, v)` (..., 2) to metres."""
        origin = uv.new_tensor([self.x_min, self.y_min])
        return uv * self.cell + origin

    def normalised(self, xy: Tensor) -> Tensor:
        """World coordinates (..., 2) to `(gx, gy)` for `grid_sample(align_corners=False)`, in (width, height) order."""
        size = xy.new_tensor([self.W, self.H])
        return self.to_cells(xy) / size * 2 - 1

    def indices(self, xy: Tensor) -> tuple[Tensor, Tensor]:
        """Flat cell index `iy * W + ix` (clamped) and mask of the points (N, 2) that lie inside the grid.

        Uses floor, so that points just below the lower edge are outside and not in cell 0.
        """
        cell = self.to_cells(xy).floor().long()
        ix, iy = cell[..., 0], cell[..., 1]
        inside = (ix >= 0) & (ix < self.W) & (iy >= 0) & (iy < self.H)
        return iy.clamp(0, self.H - 1) * self.W + ix.clamp(0, self.W - 1), inside

    def cell_centres(self, device: torch.device | None = None) -> Tensor:
        """World coordinates (H, W, 2) of the cell centres."""
        import torch

        x = self.x_min + (torch.arange(self.W, device=device) + 0.5) * self.cell
        y = self.y_min + (torch.arange(self.H, device=device) + 0.5) * self.cell
        return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)
