"""Reading BEV maps at single cells."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def read_cells(maps: Tensor, cell: Tensor) -> Tensor:
    """Rows (..., C) in float32 of maps (B, C, H, W) at flat cells (...) `(b * H + iy) * W + ix`.

    A look-up in a table with one row per cell, which is how maps in channels-last order lie in memory: their gradient
    comes back in the same order, so that it can be added to that of a convolution and passed on without a copy, and
    equal cells are summed in one order (and on CUDA in float32) whatever the device.
    """
    return F.embedding(cell, maps.permute(0, 2, 3, 1).flatten(0, 2)).float()


def split_cells(cell: Tensor, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Frame, row and column of flat cells."""
    row = torch.div(cell, width, rounding_mode="floor")
    return torch.div(row, height, rounding_mode="floor"), row % height, cell % width
