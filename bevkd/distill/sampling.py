"""Reading BEV maps at points and cells of a ragged list (entry -> frame): no padding reaches a loss.

Points and cells come down to rows (`read_cells`), of a fixed number per entry, so that no count has to leave the
device. Only `pad_ragged` needs one.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from bevkd.models.ops.cells import read_cells


class PointPlan(NamedTuple):
    """Which cells of a map a list of points reads, and how they are mixed; serves all maps of one size.

    Attributes:
        cell: (N, P, cells) flat cells `(b * H + iy) * W + ix`, clamped to the map.
        weight: (N, P, taps, cells), 0 for cells outside of the map.
    """

    cell: Tensor
    weight: Tensor

    @property
    def inside(self) -> Tensor:
        """(N, P) how much of each sample lies on the map: 1 but at its border."""
        return self.weight[:, :, self.weight.shape[2] // 2].sum(-1)


def point_plan(
    points: Tensor, frame: Tensor, size: tuple[int, int], kernel: int = 1, legacy_transpose: bool = False
) -> PointPlan:
    """Plan for bilinear samples at points, with `kernel` > 1 also at whole-cell offsets from each point.

    A convolution is linear: its output, sampled bilinearly at a point, is its kernel applied to these samples of its
    input. What lies outside of the map is zero, cells that are sampled and cells of the padding alike.

    Args:
        points: (N, P, 2) normalised (gx, gy), see `BEVGrid.normalised`.
        frame: (N,) frame of each entry.
        size: (H = y, W = x) of the maps.
        kernel: odd; `kernel`^2 samples (taps) per point, rows first.
        legacy_transpose: swap the axes as the public UniDistill code does, which reads the mirror image in the
            diagonal.
    """
    height, width = size
    if legacy_transpose:
        points = points.flip(-1)
    at = (points.float() + 1) / 2 * points.new_tensor([width, height], dtype=torch.float32) - 0.5
    corner = torch.floor(at)
    part = at - corner
    along = torch.stack([1 - part, part], -1)  # (N, P, 2 axes, 2 cells)
    four = (along[..., 1, :, None] * along[..., 0, None, :]).flatten(-2)
    side, pad = kernel + 1, kernel // 2
    cell, inside = square_cells(corner.long() - pad, frame[:, None], size, side)
    sampled = inside.unflatten(-1, (side, side))[..., pad : pad + 2, pad : pad + 2].flatten(-2)
    taps = (four * sampled) @ _corner_shifts(kernel, points.device)
    return PointPlan(cell, taps.unflatten(-1, (kernel**2, -1)) * inside[..., None, :])


def read_points(maps: Tensor, plan: PointPlan) -> Tensor:
    """Samples (N, P, taps, C) in float32 of maps (B, C, H, W)."""
    rows = read_cells(maps, plan.cell)
    if plan.weight.shape[-2] == 1:
        return (rows * plan.weight.transpose(-1, -2)).sum(-2, keepdim=True)  # quicker than products of rows
    return plan.weight @ rows


def sample_points(maps: Tensor, points: Tensor, frame: Tensor, legacy_transpose: bool = False) -> Tensor:
    """Bilinear samples (N, P, C) in float32 of maps (B, C, H, W) by a plan that is used once, see `point_plan`."""
    size = (maps.shape[-2], maps.shape[-1])
    return read_points(maps, point_plan(points, frame, size, legacy_transpose=legacy_transpose))[:, :, 0]


def gather_cells(maps: Tensor, cell: Tensor, frame: Tensor) -> Tensor:
    """Values (n, C) in float32 of maps (B, C, H, W) at flat cell indices `iy * W + ix` (n,) of frames (n,)."""
    return read_cells(maps, frame * (maps.shape[-2] * maps.shape[-1]) + cell)


def gather_patches(maps: Tensor, cell: Tensor, frame: Tensor, kernel: int) -> Tensor:
    """What a convolution with an odd kernel sees at cells as of `gather_cells`: (n, kernel^2, C) in float32."""
    height, width = maps.shape[-2:]
    corner = torch.stack([cell % width, torch.div(cell, width, rounding_mode="floor")], -1)
    index, inside = square_cells(corner - kernel // 2, frame, (height, width), kernel)
    return read_cells(maps, index) * inside[..., None]


def square_cells(first: Tensor, frame: Tensor, size: tuple[int, int], side: int) -> tuple[Tensor, Tensor]:
    """Squares of `side`^2 cells, rows first, from their cells (..., 2) of lowest (ix, iy), of frames (...).

    Returns:
        Flat cells `(b * H + iy) * W + ix` (..., side^2), clamped to the map, and 1 where they are on it, else 0.
    """
    height, width = size
    step = torch.arange(side, device=first.device)
    ix, iy = first[..., :1] + step, first[..., 1:] + step
    on_x, on_y = (ix >= 0) & (ix < width), (iy >= 0) & (iy < height)
    row = frame[..., None] * height + iy.clamp(0, height - 1)
    cell = row[..., None] * width + ix.clamp(0, width - 1)[..., None, :]
    return cell.flatten(-2), (on_y[..., None] & on_x[..., None, :]).flatten(-2).float()


def pad_ragged(values: Tensor, frame: Tensor, batch_size: int) -> tuple[Tensor, Tensor]:
    """Ragged rows (n, C) as (B, longest, C) with zeros, and the mask (B, longest) of real rows; `frame` ascending."""
    counts = torch.bincount(frame, minlength=batch_size)
    slot = torch.arange(len(frame), device=frame.device) - (torch.cumsum(counts, 0) - counts)[frame]
    longest = int(counts.max())
    mask = torch.zeros(batch_size, longest, dtype=torch.bool, device=values.device)
    mask[frame, slot] = True
    padded = values.new_zeros(batch_size, longest, values.shape[1])
    return padded.index_put((frame, slot), values), mask


def _corner_shifts(kernel: int, device: torch.device) -> Tensor:
    """(4, kernel^2 * (kernel + 1)^2) of 0 and 1: tap (i, j) takes its corner (a, b) from cell (i + a, j + b)."""
    side = kernel + 1
    one = torch.eye(side, device=device)
    shift = torch.stack([one[:-1], one[1:]])  # (corner, tap, cell) along one axis
    return torch.einsum("aip,bjq->abijpq", shift, shift).reshape(4, -1)
