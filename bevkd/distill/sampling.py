"""Reading BEV maps at points and cells of a ragged list (entry -> frame): no padding reaches a loss."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def slots(frame: Tensor, batch_size: int) -> tuple[Tensor, int]:
    """Position of each entry within its frame and the largest count; `frame` (N,) is ascending."""
    counts = torch.bincount(frame, minlength=batch_size)
    first = torch.cumsum(counts, 0) - counts
    return torch.arange(len(frame), device=frame.device) - first[frame], int(counts.max()) if len(frame) else 0


def sample_points(maps: Tensor, points: Tensor, frame: Tensor, legacy_transpose: bool = False) -> Tensor:
    """Bilinear samples (N, P, C) in float32 of maps (B, C, H, W) at points (N, P, 2).

    Zero outside the map; the centre of a cell returns exactly that cell.

    Args:
        maps: BEV maps with H = y, W = x.
        points: normalised (gx, gy), see `BEVGrid.normalised`.
        frame: (N,) frame of each entry, ascending.
        legacy_transpose: swap the axes as the public UniDistill code does, which reads the mirror image in the
            diagonal.
    """
    batch_size, channels = maps.shape[:2]
    if len(points) == 0:
        # An empty slice of the maps: gradients stay connected and nothing is computed.
        return maps.float().flatten(2)[:, :, :0].reshape(0, points.shape[1], channels)
    if legacy_transpose:
        points = points.flip(-1)
    slot, longest = slots(frame, batch_size)
    # grid_sample wants equally many points per frame: the spare slots are read and dropped again right here.
    locations = points.new_full((batch_size, longest, points.shape[1], 2), 2.0)
    locations[frame, slot] = points
    sampled = F.grid_sample(maps.float(), locations.float(), align_corners=False)  # (B, C, longest, P)
    return sampled.permute(0, 2, 3, 1)[frame, slot]


def gather_cells(maps: Tensor, cell: Tensor, frame: Tensor) -> Tensor:
    """Values (n, C) in float32 of maps (B, C, H, W) at flat cell indices `iy * W + ix` (n,) of frames (n,)."""
    return maps.flatten(2)[frame, :, cell].float()


def pad_ragged(values: Tensor, frame: Tensor, batch_size: int) -> tuple[Tensor, Tensor]:
    """Ragged rows (n, C) as (B, longest, C) with zeros, and the mask (B, longest) of real rows."""
    slot, longest = slots(frame, batch_size)
    mask = torch.zeros(batch_size, longest, dtype=torch.bool, device=values.device)
    mask[frame, slot] = True
    padded = values.new_zeros(batch_size, longest, values.shape[1])
    return padded.index_put((frame, slot), values), mask


def bilinear_cells(points: Tensor, size: tuple[int, int], legacy_transpose: bool = False) -> tuple[Tensor, Tensor]:
    """The four cells around normalised points (..., 2) and their weights, as `sample_points` reads them.

    Returns:
        Flat indices `iy * W + ix` (..., 4), clamped, and weights (..., 4), 0 for cells outside of the map.
    """
    height, width = size
    if legacy_transpose:
        points = points.flip(-1)
    at = (points.float() + 1) / 2 * points.new_tensor([width, height], dtype=torch.float32) - 0.5
    corner = torch.floor(at)
    part = at - corner
    step = torch.tensor([[0, 0], [1, 0], [0, 1], [1, 1]], device=points.device)
    cell = corner[..., None, :].long() + step  # (..., 4, 2) as (ix, iy)
    weight = torch.where(step == 1, part[..., None, :], 1 - part[..., None, :]).prod(-1)
    limit = torch.tensor([width, height], device=points.device)
    weight = weight * ((cell >= 0) & (cell < limit)).all(-1)
    cell = cell.clamp(min=0).minimum(limit - 1)
    return cell[..., 1] * width + cell[..., 0], weight
