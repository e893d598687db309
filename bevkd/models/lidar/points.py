"""Points to cells: one sort groups the points of a batch into pillars or voxels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bevkd.config.schema import ModelConfig
from bevkd.geometry import BEVGrid


@dataclass
class PointGroups:
    """Points grouped by occupied cell.

    Attributes:
        index: (P',) kept points, ordered by cell; within a cell in the order of the batch.
        cell: (P',) ascending number of the cell (0..V-1) of each kept point.
        counts: (V,) points per cell.
        coordinates: (V, 4) int64 (frame, z, y, x), ascending; z is 0 for pillars.
    """

    index: Tensor
    cell: Tensor
    counts: Tensor
    coordinates: Tensor


def group_points(
    xyz: Tensor,
    frame: Tensor,
    grid: BEVGrid,
    z_range: tuple[float, float],
    layers: int = 1,
    max_points: int = 0,
    max_cells: int = 0,
) -> PointGroups:
    """Group points by cell of `grid` and height layer.

    Args:
        xyz: (P, 3) metres in the ego frame; non-finite points are dropped.
        frame: (P,) int64.
        grid: cells in x and y.
        z_range: lower (inclusive) and upper (exclusive) height (m); points outside are dropped.
        layers: number of height layers that `z_range` is cut into.
        max_points: per cell, the first of the batch order are kept; 0: no limit.
        max_cells: per frame, the cells that are met first are kept; 0: no limit.
    """
    plane, inside = grid.indices(xyz[:, :2])
    layer = torch.floor((xyz[:, 2] - z_range[0]) / ((z_range[1] - z_range[0]) / layers))
    inside &= (layer >= 0) & (layer < layers) & torch.isfinite(xyz).all(1)
    index = inside.nonzero().squeeze(1)
    key = (frame[index] * layers + layer[index].long()) * (grid.H * grid.W) + plane[index]
    key, order = torch.sort(key, stable=True)
    index = index[order]
    cells, cell, counts = torch.unique_consecutive(key, return_inverse=True, return_counts=True)
    if max_points > 0 or max_cells > 0:
        start = counts.cumsum(0) - counts
        keep_cell = torch.ones_like(cells, dtype=torch.bool)
        if max_cells > 0:
            keep_cell = _first_cells(index[start], cells // (layers * grid.H * grid.W), max_cells)
        keep = keep_cell[cell]
        if max_points > 0:
            keep &= torch.arange(len(cell), device=cell.device) - start[cell] < max_points
        index, key = index[keep], key[keep]
        cells, cell, counts = torch.unique_consecutive(key, return_inverse=True, return_counts=True)
    plane = cells % (grid.H * grid.W)
    above = cells // (grid.H * grid.W)
    coordinates = torch.stack([above // layers, above % layers, plane // grid.W, plane % grid.W], dim=1)
    return PointGroups(index, cell, counts, coordinates)


def _first_cells(first_point: Tensor, frame: Tensor, max_cells: int) -> Tensor:
    """Mask of the cells that rank below `max_cells` in their frame, by the position of their first point."""
    order = torch.sort(first_point).indices
    order = order[torch.sort(frame[order], stable=True).indices]  # by frame, then by first point
    sizes = torch.bincount(frame)
    begin = (sizes.cumsum(0) - sizes)[frame[order]]
    keep = torch.empty_like(frame, dtype=torch.bool)
    keep[order] = torch.arange(len(frame), device=frame.device) - begin < max_cells
    return keep


def point_scale(config: ModelConfig) -> list[float]:
    """Factor per point feature (x, y, z, intensity, dt, ...): `intensity_scale`, and order one with `normalise`.

    Metres of position would drown sweep ages of 50 ms in a short training.
    """
    lidar, grid = config.lidar, config.grid
    scale = [1.0, 1.0, 1.0, lidar.intensity_scale, 1.0]
    if lidar.normalise:
        across, up = 1 / grid.reach, 2 / (grid.z_max - grid.z_min)
        scale = [across, across, up, lidar.intensity_scale, lidar.dt_scale]
    return [*scale, *[1.0] * lidar.point_features][: lidar.point_features]


def mean_per_cell(values: Tensor, groups: PointGroups) -> Tensor:
    """Mean (V, C) of per-point values (P', C), which are ordered by cell."""
    total = values.new_zeros(len(groups.counts), values.shape[1]).index_add_(0, groups.cell, values)
    return total / groups.counts[:, None].to(values.dtype)


def to_dense(features: Tensor, flat: Tensor, batch: int, height: int, width: int) -> Tensor:
    """Scatter rows (V, C) to a map (B, C, H, W); `flat` (V,) = (frame * H + y) * W + x, without duplicates."""
    canvas = features.new_zeros(batch * height * width, features.shape[1]).index_copy(0, flat, features)
    return canvas.view(batch, height, width, -1).permute(0, 3, 1, 2)  # channels-last in memory, which CPUs like
