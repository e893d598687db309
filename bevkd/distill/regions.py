"""Regions of a BEV map by what teacher and boxes say of its cells, and the weight of each cell in its region.

    FG   cells in the footprint of a box         S = 1 / sqrt(h w), h and w the sides of the box in cells
    FP   cells where only the teacher fires      S = 1 / number of them in the frame
    TN   all others                              S = 1 / number of them in the frame

(DistillBEV, Eq. 1 and its adaptive scaling).
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from bevkd.data.batch import Boxes
from bevkd.distill.masks import inside
from bevkd.geometry import BEVGrid
from bevkd.models.layers import reads_are_free

CellPoint = Literal["centre", "corner"]
Scaling = Literal["adaptive", "code", "uniform"]
Fires = Literal["teacher", "student", "rejected", "union"]
_LEAST_AREA = 1e-4  # m^2: the weight of a box without an area would have no end


class Regions(NamedTuple):
    """A partition of the cells (B, H, W), bool, and their weights S (B, H, W), float32."""

    fg: Tensor
    fp: Tensor
    tn: Tensor
    scale: Tensor

    def weights(self) -> Tensor:
        """S in one region and 0 elsewhere, of FG, FP and TN: (3, B, H, W)."""
        return torch.stack(self[:3]) * self.scale


def box_owners(
    boxes: Boxes, grid: BEVGrid, batch_size: int, point: CellPoint = "centre", one_cell: bool = False
) -> Tensor:
    """The first box that holds a cell (B, H, W), as an index into the boxes; their number where there is none.

    Args:
        boxes: flat over the batch.
        grid: of the cells.
        batch_size: number of frames B.
        point: of a cell, which is in a box or not: its centre, or its corner of lowest x and y.
        one_cell: the cell of its centre belongs to a box, too, however small that is.
    """
    b, none = boxes.boxes.float(), len(boxes)
    cells = grid.H * grid.W
    owners = torch.full((batch_size * cells,), none, device=b.device)
    if none:
        ix, iy = _candidates(b, grid)
        shift = 0.5 if point == "centre" else 0.0
        points = torch.stack([grid.x_min + (ix + shift) * grid.cell, grid.y_min + (iy + shift) * grid.cell], -1)
        on_map = (ix >= 0) & (ix < grid.W) & (iy >= 0) & (iy < grid.H)
        held = inside(points, b)
        if one_cell:
            centre = grid.to_cells(b[:, None, :2]).floor()
            held = held | ((ix == centre[..., 0]) & (iy == centre[..., 1]))
        index = boxes.frame[:, None] * cells + iy.clamp(0, grid.H - 1) * grid.W + ix.clamp(0, grid.W - 1)
        box = torch.arange(none, device=b.device)[:, None]
        owner = torch.where(held & on_map, box, none)
        owners.scatter_reduce_(0, index.flatten(), owner.flatten(), reduce="amin")
    return owners.view(batch_size, grid.H, grid.W)


def _candidates(b: Tensor, grid: BEVGrid) -> tuple[Tensor, Tensor]:
    """Columns and rows (N, P) of the cells that a box could hold: those around its centre, where it costs nothing to
    know how many that are, otherwise all cells of the map.
    """
    if reads_are_free(b.device):
        reach = float(torch.hypot(b[:, 3], b[:, 4]).max()) / 2 / grid.cell + 1
        if (2 * reach + 1) ** 2 < grid.H * grid.W:
            step = torch.arange(-int(reach), int(reach) + 1, device=b.device)
            dy, dx = torch.meshgrid(step, step, indexing="ij")
            last = b.new_tensor([grid.W, grid.H])
            centre = torch.minimum(grid.to_cells(b[:, :2]).clamp(min=-2 * reach), last + 2 * reach).floor().long()
            return centre[:, :1] + dx.flatten(), centre[:, 1:] + dy.flatten()
    iy, ix = torch.meshgrid(*(torch.arange(n, device=b.device) for n in (grid.H, grid.W)), indexing="ij")
    return ix.flatten().expand(len(b), -1), iy.flatten().expand(len(b), -1)


def only_they_fire(who: Fires, teacher: Tensor, student: Tensor, drawn: Tensor, gamma: float) -> Tensor:
    """Cells (B, H, W) where a network fires and the boxes do not.

    Args:
        who: the teacher, the student, the student where the teacher does not, or teacher and those of the student.
        teacher: highest score of each cell (B, H, W); not read for the student alone.
        student: the same of the student; not read for the teacher alone.
        drawn: highest of the heat maps drawn of boxes.
        gamma: what is above it fires, what is below it does not.
    """
    out = torch.zeros_like(drawn, dtype=torch.bool)
    if who in ("teacher", "union"):
        out |= teacher > gamma
    if who == "student":
        out |= student > gamma
    if who in ("rejected", "union"):
        out |= (student > gamma) & (teacher < gamma)
    return out & (drawn < gamma)


def resized_mask(mask: Tensor, height: int, width: int) -> Tensor:
    """A mask (B, h, w) at another resolution: any of the cells that fall into one, or each repeated."""
    if mask.shape[1:] == (height, width):
        return mask
    if mask.shape[1] > height:
        return F.adaptive_max_pool2d(mask[:, None].float(), (height, width))[:, 0] > 0
    return F.interpolate(mask[:, None].float(), (height, width), mode="nearest")[:, 0] > 0


def split_regions(owners: Tensor, boxes: Boxes, cell: float, fp: Tensor | None, scaling: Scaling) -> Regions:
    """Regions of a map.

    Args:
        owners: of its cells, see `box_owners`.
        boxes: whose indices these are.
        cell: side of a cell (m).
        fp: cells (B, H, W) that count as FP where they are in no box; None: there is no such region.
        scaling: `adaptive` as above; `code` as the public code, in which a cell of a box has at least the weight of a
            TN cell; `uniform`: each cell of the map has the same, 1 / (H W).
    """
    fg = owners < len(boxes)
    fp = torch.zeros_like(fg) if fp is None else fp & ~fg
    tn = ~(fg | fp)
    if scaling == "uniform":
        return Regions(fg, fp, tn, torch.full(fg.shape, 1.0 / fg[0].numel(), device=fg.device))
    area = (boxes.boxes[:, 3] * boxes.boxes[:, 4]).float().clamp(min=_LEAST_AREA)
    scale = torch.cat([cell / area.sqrt(), area.new_zeros(1)])[owners]
    by_frame = [region.sum((1, 2)).float()[:, None, None] for region in (fp, tn)]
    in_fp, in_tn = (1.0 / count.clamp(min=1) for count in by_frame)
    if scaling == "code":
        scale = torch.where(by_frame[1] > 0, torch.maximum(scale, in_tn), scale)
    scale = torch.where(fg, scale, torch.where(fp, in_fp, in_tn))
    return Regions(fg, fp, tn, scale)
