"""Reading BEV maps at points and cells of a ragged list (entry -> frame): no padding reaches a loss.

Everything comes down to rows of cells (`read_cells`) of a fixed number per entry, so that no count has to leave the
device.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bevkd.models.ops.cells import read_cells


def sample_points(maps: Tensor, points: Tensor, frame: Tensor, legacy_transpose: bool = False) -> Tensor:
    """Bilinear samples (N, P, C) in float32 of maps (B, C, H, W) at points (N, P, 2).

    Zero outside the map; the centre of a cell returns exactly that cell.

    Args:
        maps: BEV maps with H = y, W = x.
        points: normalised (gx, gy), see `BEVGrid.normalised`.
        frame: (N,) frame of each entry.
        legacy_transpose: swap the axes as the public UniDistill code does, which reads the mirror image in the
            diagonal.
    """
    corner, part = _corner(maps, points, legacy_transpose)
    cell, inside = _square(maps, corner, frame[:, None], 2)
    along = torch.stack([1 - part, part], -1)  # (N, P, 2 axes, 2 cells)
    weight = (along[..., 1, :, None] * along[..., 0, None, :]).flatten(-2) * inside
    return (read_cells(maps, cell) * weight[..., None]).sum(-2)


def sample_patches(maps: Tensor, points: Tensor, frame: Tensor, kernel: int, legacy_transpose: bool = False) -> Tensor:
    """What a convolution with an odd kernel sees at points (N, P, 2): (N, P, kernel^2, C) in float32, rows first.

    A convolution is linear: its output, sampled bilinearly at a point, is the kernel applied to samples of its input
    at whole-cell offsets from the point. Cells outside of the map are zero, as under zero padding. Arguments as of
    `sample_points`.
    """
    corner, part = _corner(maps, points, legacy_transpose)
    side = kernel + 1
    cell, inside = _square(maps, corner - kernel // 2, frame[:, None], side)
    # Sample (i, j) of a patch mixes the cells (i, j), (i, j + 1), (i + 1, j) and (i + 1, j + 1) of the square.
    one = torch.eye(side, device=maps.device)
    x, y = (torch.lerp(one[:-1], one[1:], part[..., axis, None, None]) for axis in (0, 1))  # (N, P, kernel, side)
    mix = (y[..., :, None, :, None] * x[..., None, :, None, :]).flatten(-4, -3).flatten(-2)
    return (mix * inside[..., None, :]) @ read_cells(maps, cell)


def gather_cells(maps: Tensor, cell: Tensor, frame: Tensor) -> Tensor:
    """Values (n, C) in float32 of maps (B, C, H, W) at flat cell indices `iy * W + ix` (n,) of frames (n,)."""
    return read_cells(maps, frame * (maps.shape[-2] * maps.shape[-1]) + cell)


def gather_patches(maps: Tensor, cell: Tensor, frame: Tensor, kernel: int) -> Tensor:
    """What a convolution with an odd kernel sees at cells as of `gather_cells`: (n, kernel^2, C) in float32."""
    corner = torch.stack([cell % maps.shape[-1], torch.div(cell, maps.shape[-1], rounding_mode="floor")], -1)
    index, inside = _square(maps, corner - kernel // 2, frame, kernel)
    return read_cells(maps, index) * inside[..., None]


def pad_ragged(values: Tensor, frame: Tensor, batch_size: int) -> tuple[Tensor, Tensor]:
    """Ragged rows (n, C) as (B, longest, C) with zeros, and the mask (B, longest) of real rows; `frame` ascending."""
    counts = torch.bincount(frame, minlength=batch_size)
    slot = torch.arange(len(frame), device=frame.device) - (torch.cumsum(counts, 0) - counts)[frame]
    longest = int(counts.max())
    mask = torch.zeros(batch_size, longest, dtype=torch.bool, device=values.device)
    mask[frame, slot] = True
    padded = values.new_zeros(batch_size, longest, values.shape[1])
    return padded.index_put((frame, slot), values), mask


def _corner(maps: Tensor, points: Tensor, legacy_transpose: bool) -> tuple[Tensor, Tensor]:
    """Cell (ix, iy) whose centre lies below and left of each point, and how far beyond it the point is, [0, 1)."""
    if legacy_transpose:
        points = points.flip(-1)
    size = points.new_tensor([maps.shape[-1], maps.shape[-2]], dtype=torch.float32)
    at = (points.float() + 1) / 2 * size - 0.5
    corner = torch.floor(at)
    return corner.long(), at - corner


def _square(maps: Tensor, first: Tensor, frame: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Squares of `side`^2 cells, rows first, from their cells (..., 2) of lowest (ix, iy), of frames (...).

    Returns:
        Flat cells `(b * H + iy) * W + ix` (..., side^2), clamped to the map, and 1 where they are on it, else 0.
    """
    height, width = maps.shape[-2:]
    step = torch.arange(side, device=maps.device)
    ix, iy = first[..., :1] + step, first[..., 1:] + step
    on_x, on_y = (ix >= 0) & (ix < width), (iy >= 0) & (iy < height)
    row = frame[..., None] * height + iy.clamp(0, height - 1)
    cell = row[..., None] * width + ix.clamp(0, width - 1)[..., None, :]
    return cell.flatten(-2), (on_y[..., None] & on_x[..., None, :]).flatten(-2).float()
