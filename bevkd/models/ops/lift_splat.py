"""Lift-splat as one sparse product: BEV = S(depth) @ context, without the (N, D, h, w, C) tensor.

Each BEV cell is a bag of frustum points; a point contributes its depth probability times the context of its pixel.
`embedding_bag` computes that directly from the pixel table. The backward pass is the same product the other way
round: each pixel is a bag of cells. Only index lists and one probability per frustum point are ever stored.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import embedding_bag

from bevkd.data.batch import Cameras
from bevkd.geometry import BEVGrid


@dataclass
class SplatPlan:
    """Which frustum point falls into which cell; K points fall inside the grid.

    A frustum point has the flat index `pixel * D + bin`, a pixel `((b * N + n) * h + row) * w + column`, a cell
    `(b * H + iy) * W + ix`. All lists are int32.

    Attributes:
        point_by_cell: (K,) points sorted by cell (then by point).
        pixel_by_cell: (K,) their pixels.
        cell_offsets: (cells + 1,) start of each cell in these lists.
        point_by_pixel: (K,) the same points in ascending order.
        cell_by_pixel: (K,) their cells.
        pixel_by_pixel: (K,) their pixels.
        pixel_offsets: (pixels + 1,) start of each pixel.
    """

    point_by_cell: Tensor
    pixel_by_cell: Tensor
    cell_offsets: Tensor
    point_by_pixel: Tensor
    cell_by_pixel: Tensor
    pixel_by_pixel: Tensor
    pixel_offsets: Tensor


@torch.no_grad()
def frustum_cells(
    cameras: Cameras,
    bev_aug: Tensor,
    grid: BEVGrid,
    z_range: tuple[float, float],
    depths: Tensor,
    size: tuple[int, int],
) -> Tensor:
    """BEV cell of every frustum point: (B, N, h, w, D) int32 `(b * H + iy) * W + ix`, -1 outside grid or z range.

    Pixels are spread from the first to the last one of the augmented image (linspace, as in lift-splat-shoot).
    Cells and heights are found by floor and an explicit range test: integer truncation would take points up to one
    cell below the lower bound into cell 0.

    Args:
        cameras: geometry of B frames x N cameras.
        bev_aug: (B, 4, 4).
        grid: cells of the map.
        z_range: lower (inclusive) and upper (exclusive) height (m).
        depths: (D,) metres along the optical axis.
        size: (h, w) of the feature map.
    """
    height, width = cameras.images.shape[-2:]
    device = cameras.images.device
    v = torch.linspace(0, height - 1, size[0], dtype=torch.float64, device=device)
    u = torch.linspace(0, width - 1, size[1], dtype=torch.float64, device=device)
    pixels = torch.stack([*torch.meshgrid(u, v, indexing="xy"), torch.ones(size, device=device).double()])  # (3, h, w)
    to_ego = bev_aug.double()[:, None] @ cameras.ego_from_camera.double()
    inverse = torch.linalg.inv(cameras.image_aug.double() @ cameras.intrinsics.double())
    rays = ((to_ego[..., :3, :3] @ inverse) @ pixels.flatten(1)).unflatten(-1, size).float()  # per metre of depth
    origin = to_ego[..., :3, 3].float()

    # One buffer for the three axes: at this size, fresh memory costs more than the arithmetic.
    scaled = rays.new_empty(*rays.shape[:2], *size, len(depths))

    def along(axis: int, low: float, step: float) -> Tensor:
        torch.mul(rays[:, :, axis, :, :, None], depths / step, out=scaled)
        return scaled.add_(((origin[..., axis] - low) / step)[:, :, None, None, None])

    layer = along(2, z_range[0], z_range[1] - z_range[0])
    inside = (layer >= 0).logical_and_(layer < 1)
    ix = along(0, grid.x_min, grid.cell).floor_()
    inside.logical_and_(ix >= 0).logical_and_(ix < grid.W)
    cell = ix.int()
    iy = along(1, grid.y_min, grid.cell).floor_()
    inside.logical_and_(iy >= 0).logical_and_(iy < grid.H)
    # Products of cell numbers stay exact in int32; in float32 they would not. What is far outside may overflow.
    cell += iy.int().mul_(grid.W)
    frame = torch.arange(len(bev_aug), device=device, dtype=torch.int32)[:, None, None, None, None]
    cell += frame * (grid.H * grid.W)
    return cell.masked_fill_(inside.logical_not_(), -1)


@torch.no_grad()
def plan_splat(cells: Tensor, cell_count: int) -> SplatPlan:
    """Sort the frustum points (..., D) int32, -1 for dropped ones, once per batch of geometries."""
    return (_plan_by_transposing if cells.device.type == "cpu" else _plan_by_sorting)(cells, cell_count)


def _plan_by_transposing(cells: Tensor, cell_count: int) -> SplatPlan:
    """On the CPU: the points are the entries of a sparse matrix of pixels x cells, whose transpose has them by cell.

    SciPy transposes by counting, which is faster than to sort, and keeps the order.
    """
    rows = cells.reshape(-1, cells.shape[-1]).numpy()
    inside = rows >= 0
    point = np.flatnonzero(inside).astype(np.int32)
    cell = rows[inside]
    counts = inside.sum(axis=1, dtype=np.int32)
    offsets = np.zeros(len(rows) + 1, dtype=np.int32)
    np.cumsum(counts, out=offsets[1:])
    pixel = np.repeat(np.arange(len(rows), dtype=np.int32), counts)
    by_cell = csr_array((point, cell, offsets), shape=(len(rows), cell_count)).tocsc()
    lists = (by_cell.data, by_cell.indices, by_cell.indptr, point, cell, pixel, offsets)
    return SplatPlan(*(torch.from_numpy(held.astype(np.int32, copy=False)) for held in lists))


def _plan_by_sorting(cells: Tensor, cell_count: int) -> SplatPlan:
    """On an accelerator, without a way to the host."""
    bins = cells.shape[-1]
    flat = cells.reshape(-1)
    point = (flat >= 0).nonzero().squeeze(1).int()
    cell = flat[point]
    pixel = torch.div(point, bins, rounding_mode="floor")
    by_cell, order = torch.sort(cell, stable=True)

    def offsets(members: Tensor, count: int) -> Tensor:
        edges = torch.zeros(count + 1, dtype=torch.int32, device=members.device)
        edges[1:] = torch.bincount(members, minlength=count).cumsum(0)
        return edges

    return SplatPlan(
        point_by_cell=point[order],
        pixel_by_cell=pixel[order],
        cell_offsets=offsets(by_cell, cell_count),
        point_by_pixel=point,
        cell_by_pixel=cell,
        pixel_by_pixel=pixel,
        pixel_offsets=offsets(pixel, flat.numel() // bins),
    )


def _weighted_bags(table: Tensor, index: Tensor, offsets: Tensor, weights: Tensor) -> Tensor:
    return embedding_bag(index, table, offsets, mode="sum", per_sample_weights=weights, include_last_offset=True)


class _LiftSplat(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, context: Tensor, depth: Tensor, plan: SplatPlan) -> Tensor:
        ctx.save_for_backward(context, depth)
        ctx.plan = plan
        return _weighted_bags(context, plan.pixel_by_cell, plan.cell_offsets, depth[plan.point_by_cell])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        context, depth = ctx.saved_tensors
        plan: SplatPlan = ctx.plan
        grad = grad.contiguous()
        weights = depth[plan.point_by_pixel]
        grad_context = _weighted_bags(grad, plan.cell_by_pixel, plan.pixel_offsets, weights)
        # d/d weight of a point = <context of its pixel, gradient of its cell>: the bag's kernel for that, with the
        # pixels as bags, so that the large gradient map is read row by row and nothing is gathered.
        per_point = torch.ops.aten._embedding_bag_per_sample_weights_backward(
            context, grad, plan.cell_by_pixel, plan.pixel_offsets[:-1], plan.pixel_by_pixel, 0
        )
        grad_depth = torch.zeros_like(depth)
        grad_depth[plan.point_by_pixel] = per_point
        return grad_context, grad_depth, None


def lift_splat(context: Tensor, depth: Tensor, plan: SplatPlan) -> Tensor:
    """Sum of depth probability x context over the frustum points of each cell.

    Args:
        context: (pixels, C) float32.
        depth: (pixels, D) float32.
        plan: see `plan_splat`.

    Returns:
        (cells, C); cells without points are zero.
    """
    return _LiftSplat.apply(context.contiguous(), depth.reshape(-1), plan)
