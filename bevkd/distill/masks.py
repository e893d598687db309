"""Which cells of the BEV map belong to objects."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from bevkd.data.batch import Boxes
from bevkd.geometry import BEVGrid
from bevkd.geometry.gaussian import draw_gaussians, gaussian_radius, reach_of


class Cells(NamedTuple):
    """Cells of a batch: flat index `iy * W + ix` (n,), frame (n,) ascending, weight (n,) float32."""

    cell: Tensor
    frame: Tensor
    weight: Tensor


def gaussian_mask(
    boxes: Boxes, grid: BEVGrid, batch_size: int, min_overlap: float = 0.7, min_radius: int = 0
) -> Tensor:
    """UniDistill's mask G (B, H, W): one Gaussian peak per box, overlaps by maximum, yaw ignored."""
    size = boxes.boxes[:, 3:5].float() / grid.cell
    radius = gaussian_radius(size[:, 0], size[:, 1], min_overlap).floor().long().clamp(min=min_radius)
    centres = torch.floor(grid.to_cells(boxes.boxes[:, :2].float())).long()
    reach = reach_of(grid.cell, min_overlap, min_radius)
    return draw_gaussians(centres, radius, boxes.frame, batch_size, grid.H, grid.W, reach)


def cells_of(mask: Tensor, every: bool = False) -> Cells:
    """The cells where a mask (B, H, W) is positive, sorted by frame and cell.

    How many there are has to be read back from the device; `every` returns all cells instead, those outside of the mask
    with weight 0.
    """
    flat = mask.flatten(1)
    if every:
        frame, cell = (
            i.flatten()
            for i in torch.meshgrid(*(torch.arange(n, device=mask.device) for n in flat.shape), indexing="ij")
        )
        return Cells(cell, frame, flat.flatten().float())
    frame, cell = torch.nonzero(flat > 0, as_tuple=True)
    return Cells(cell, frame, flat[frame, cell].float())


def inside_boxes(boxes: Tensor, grid: BEVGrid) -> Tensor:
    """Which cell centres (N, H * W) lie in which boxes (N, 7+), seen from above; edges belong to a box."""
    return inside(grid.cell_centres(boxes.device).view(1, -1, 2), boxes)


def inside(points: Tensor, boxes: Tensor) -> Tensor:
    """Which points (N or 1, P, 2) lie in which boxes (N, 7+), seen from above: (N, P); edges belong to a box."""
    b = boxes.float()
    delta = points - b[:, None, :2]
    cos, sin = torch.cos(b[:, 6:7]), torch.sin(b[:, 6:7])
    along = cos * delta[..., 0] + sin * delta[..., 1]
    across = cos * delta[..., 1] - sin * delta[..., 0]
    return (along.abs() <= b[:, 3:4] / 2) & (across.abs() <= b[:, 4:5] / 2)


def box_mask(boxes: Boxes, grid: BEVGrid, batch_size: int) -> Tensor:
    """Binary mask (B, H, W): cells whose centre lies in a box, and the cell of every box centre (small objects)."""
    out = torch.zeros(batch_size * grid.H * grid.W, device=boxes.boxes.device)
    b = boxes.boxes.float()
    centre, on_map = grid.indices(b[:, :2])
    box, cell = torch.nonzero(inside_boxes(b, grid), as_tuple=True)
    out[boxes.frame[box] * (grid.H * grid.W) + cell] = 1.0
    out[(boxes.frame * (grid.H * grid.W) + centre)[on_map]] = 1.0
    return out.view(batch_size, grid.H, grid.W)
