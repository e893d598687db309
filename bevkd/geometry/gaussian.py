"""Gaussian peaks on BEV maps: the CornerNet-style radius and a vectorised drawing routine."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_LARGEST = (20.0, 8.0)  # length and width (m)


def gaussian_radius(length_cells: Tensor, width_cells: Tensor, min_overlap: float) -> Tensor:
    """Real-valued radius (cells) for boxes of the given sizes (cells), before any floor or minimum.

    The smallest of the three CornerNet cases. All roots are divided by 2, although the second and third
    quadratics have leading coefficients other than 1: the published detectors do the same, and their targets
    depend on it.
    """
    total, area, o = length_cells + width_cells, length_cells * width_cells, min_overlap
    r1 = (total + torch.sqrt(total**2 - 4 * area * (1 - o) / (1 + o))) / 2
    r2 = (2 * total + torch.sqrt(4 * total**2 - 16 * (1 - o) * area)) / 2
    r3 = (-2 * o * total + torch.sqrt(4 * o**2 * total**2 + 16 * o * (1 - o) * area)) / 2
    return torch.minimum(torch.minimum(r1, r2), r3)


def reach_of(cell: float, min_overlap: float, min_radius: int) -> int:
    """The radius (cells) of an object of `_LARGEST` metres: a bound that needs no look at the boxes.

    The third case of `gaussian_radius`, which is the smallest whatever the size: it is at most (l + w) / 4.
    """
    total, area, o = sum(_LARGEST) / cell, math.prod(_LARGEST) / cell**2, min_overlap
    radius = (-2 * o * total + math.sqrt(4 * o**2 * total**2 + 16 * o * (1 - o) * area)) / 2
    return max(min_radius, math.ceil(radius))


def draw_gaussians(
    centres: Tensor, radius: Tensor, plane: Tensor, planes: int, height: int, width: int, reach: int | None = None
) -> Tensor:
    """Maps (planes, height, width) with one Gaussian per entry; overlaps take the maximum.

    `exp(-d^2 / (2 s^2))` with `s = (2 * radius + 1) / 6` on the square of side `2 * radius + 1`, cut at the
    border of the map.

    Args:
        centres: (N, 2) int64 cell indices (ix, iy); they may lie outside the map.
        radius: (N,) int64, at least 0.
        plane: (N,) int64, the map that each entry is drawn on.
        planes: number of maps.
        height: rows (y) of a map.
        width: columns (x) of a map.
        reach: larger radii are cut to this one, see `reach_of`. None: the largest radius, which has to be read back
            from the device.
    """
    out = torch.zeros(planes * height * width, device=centres.device)
    if len(centres) == 0:
        return out.view(planes, height, width)
    if reach is None:
        reach = int(radius.max())
    radius = radius.clamp(max=reach)
    step = torch.arange(-reach, reach + 1, device=centres.device)
    dy, dx = (d.reshape(1, -1) for d in torch.meshgrid(step, step, indexing="ij"))
    ix, iy = centres[:, :1] + dx, centres[:, 1:] + dy  # (N, side^2)
    sigma = (2 * radius[:, None] + 1) / 6
    value = torch.exp(-(dx**2 + dy**2) / (2 * sigma**2))
    inside = (dx.abs() <= radius[:, None]) & (dy.abs() <= radius[:, None])
    inside &= (ix >= 0) & (ix < width) & (iy >= 0) & (iy < height)
    index = (plane[:, None] * height + iy.clamp(0, height - 1)) * width + ix.clamp(0, width - 1)
    out.scatter_reduce_(0, index.flatten(), torch.where(inside, value, 0.0).flatten(), reduce="amax")
    return out.view(planes, height, width)
