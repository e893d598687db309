"""Boxes that grow with their range and speed, and the cells under them: the masks of CRKD's feature loss.

Boxes are `(x, y, z, l, w, h, yaw, vx, vy)` in the ego frame (x ahead, y to the left), metres, rad, m/s.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from bevkd.data.batch import Boxes
from bevkd.distill.masks import inside_boxes
from bevkd.geometry import BEVGrid
from bevkd.geometry.gaussian import draw_gaussians, gaussian_radius, reach_of

if TYPE_CHECKING:
    from bevkd.distill.taps.footprints import Footprints

_OVERLAP, _MIN_RADIUS = 0.1, 1  # of the Gaussian variant (cells)
_NARROW = 8.0  # m: the width that `reach_of` has in mind


def growth(boxes: Tensor, options: Footprints) -> Tensor:
    """By how much boxes (N, 9) grow: (N, 2) metres of length and of width, half of it on either side.

    Length goes with the velocity along x and width with that along y, which is right for boxes along the axes of the
    ego vehicle only (`velocity_frame: lidar`), or each with its own component (`box`). A velocity that is not a number
    adds nothing.
    """
    b = boxes.float()
    reach = torch.linalg.vector_norm(b[:, :2], dim=1, keepdim=True)
    speed = b[:, 7:9]
    if options.velocity_frame == "box":
        cos, sin = torch.cos(b[:, 6]), torch.sin(b[:, 6])
        speed = torch.stack([cos * b[:, 7] + sin * b[:, 8], cos * b[:, 8] - sin * b[:, 7]], 1)
    share = _step(reach, options.r1, options.r2, options) + _step(speed.abs(), options.v1, options.v2, options)
    return (b[:, 3:5] * share).clamp(options.least, options.most)


def _step(value: Tensor, low: float, high: float, options: Footprints) -> Tensor:
    """0 up to `low`, alpha up to `high`, beta from there on; 0 for what is not a number."""
    nothing = torch.zeros_like(value)
    return torch.where(value >= high, options.beta, torch.where(value > low, options.alpha, nothing))


def scaled(boxes: Tensor, options: Footprints) -> Tensor:
    """Boxes (N, 9) with their `growth`."""
    return torch.cat([boxes[:, :3], boxes[:, 3:5] + growth(boxes, options), boxes[:, 5:]], 1)


def footprint_mask(boxes: Boxes, grid: BEVGrid, batch_size: int, options: Footprints) -> Tensor:
    """Mask (B, H, W): 1 in cells under a box, or the highest Gaussian there."""
    b = boxes.boxes.float()
    if options.shape != "box":
        b = scaled(b, options)
    if options.shape == "gaussian":
        return _gaussians(b, boxes.frame, grid, batch_size, options)
    if options.geometry == "code":
        inside = code_rectangles(b, grid)
    else:
        inside = inside_boxes(hulls(b) if options.geometry == "axis_aligned_hull" else b, grid)
    out = torch.zeros(batch_size, grid.H * grid.W, device=b.device)
    return out.index_add_(0, boxes.frame, inside.float()).clamp(max=1).view(batch_size, grid.H, grid.W)


def hulls(boxes: Tensor) -> Tensor:
    """The smallest boxes along the axes around boxes (N, 7+)."""
    cos, sin = torch.cos(boxes[:, 6:7]).abs(), torch.sin(boxes[:, 6:7]).abs()
    length, width = boxes[:, 3:4], boxes[:, 4:5]
    size = torch.cat([length * cos + width * sin, length * sin + width * cos], 1)
    return torch.cat([boxes[:, :3], size, boxes[:, 5:6], torch.zeros_like(cos), boxes[:, 7:]], 1)


def code_rectangles(boxes: Tensor, grid: BEVGrid) -> Tensor:
    """Which cells (N, H * W) CRKD's public code takes for boxes (N, 7+).

    It takes the extent along x from one edge of the box and that along y from another, so that a rectangle of
    l |cos yaw| by w |cos yaw| is left, moved by (w, l) sin(yaw) / 2: right for boxes along the axes, empty for those
    across. Corners are cut down to whole cells counted from the rear right corner of the map, the first cell counts and
    the last one does not, and the last cell of each axis can never be reached.
    """
    cell = grid.to_cells(boxes[:, :2].float())
    ahead, right = cell[:, 0], grid.H - cell[:, 1]  # the code's frame is the LiDAR's: x to the right, y ahead
    half_l, half_w = boxes[:, 3] / 2 / grid.cell, boxes[:, 4] / 2 / grid.cell
    cos, sin = torch.cos(boxes[:, 6]), torch.sin(boxes[:, 6])
    aside, along = right - half_l * sin, ahead + half_w * sin
    x = torch.stack([along + half_l * cos, along - half_l * cos], 1).floor().clamp(0, grid.W - 1)
    y = torch.stack([aside - half_w * cos, aside + half_w * cos], 1).floor().clamp(0, grid.H - 1)
    ix = torch.arange(grid.W, device=boxes.device)
    iy = grid.H - 1 - torch.arange(grid.H, device=boxes.device)
    in_x = (ix >= x.amin(1, keepdim=True)) & (ix < x.amax(1, keepdim=True))
    in_y = (iy >= y.amin(1, keepdim=True)) & (iy < y.amax(1, keepdim=True))
    return (in_y[:, :, None] & in_x[:, None, :]).flatten(1)


def _gaussians(boxes: Tensor, frame: Tensor, grid: BEVGrid, batch_size: int, options: Footprints) -> Tensor:
    """CenterPoint's Gaussians (B, H, W) of boxes whose centre is on the map; overlaps by maximum."""
    size = boxes[:, 3:5] / grid.cell
    radius = gaussian_radius(size[:, 0], size[:, 1], _OVERLAP).floor().long().clamp(min=_MIN_RADIUS)
    centre = grid.to_cells(boxes[:, :2]).floor().long()
    inside = ((centre >= 0) & (centre < centre.new_tensor([grid.W, grid.H]))).all(1)
    reach = reach_of(grid.cell / (1 + options.most / _NARROW), _OVERLAP, _MIN_RADIUS)  # of a grown large object
    centre = torch.where(inside[:, None], centre, -2 * reach - 2)  # too far away to be seen
    return draw_gaussians(centre, radius, frame, batch_size, grid.H, grid.W, reach)
