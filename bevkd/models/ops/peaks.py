"""Local maxima of maps, by shifted copies: on a CPU many times faster than max pooling, and equal to it."""

from __future__ import annotations

import torch
from torch import Tensor


@torch.no_grad()
def highest_near(maps: Tensor, window: int) -> Tensor:
    """The highest value (..., H, W) within a square of `window` cells (odd) around each cell of maps (..., H, W)."""
    for dim in (-2, -1):
        out, size = maps.clone(), maps.shape[dim]
        for shift in range(1, min(window // 2, size - 1) + 1):
            left = size - shift
            before, after = out.narrow(dim, 0, left), out.narrow(dim, shift, left)
            torch.maximum(before, maps.narrow(dim, shift, left), out=before)
            torch.maximum(after, maps.narrow(dim, 0, left), out=after)
        maps = out
    return maps
