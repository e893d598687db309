"""Boxes <-> the ten regression values of a cell; the only place that knows the code."""

from __future__ import annotations

import torch
from torch import Tensor

from bevkd.geometry import BEVGrid
from bevkd.models.ops.cells import read_cells
from bevkd.models.outputs import REGRESSION, TaskOutput

# Order of the values; `iou` is a prediction about the box, not part of it.
CODE = ("reg", "height", "dim", "rot", "vel")
_LARGEST_LOG = 80.0  # far beyond any box; the exponential function of 89 is infinite in float32, and so is its gradient
CODE_WIDTH = sum(width for name, width in REGRESSION if name in CODE)  # the first maps of `TaskOutput.joined`


def encode(boxes: Tensor, uv: Tensor, ix: Tensor, iy: Tensor) -> Tensor:
    """Regression targets (n, 10): dx, dy (cells, from the cell's corner), z, log l, log w, log h, sin, cos, vx, vy.

    Args:
        boxes: (n, 9).
        uv: (n, 2) continuous cell coordinates of the centres.
        ix: (n,) column of the cell that regresses.
        iy: (n,) its row.
    """
    offset = uv - torch.stack([ix, iy], dim=1).to(uv.dtype)
    yaw = boxes[:, 6:7]
    return torch.cat([offset, boxes[:, 2:3], boxes[:, 3:6].log(), yaw.sin(), yaw.cos(), boxes[:, 7:9]], dim=1)


def decode_size(logs: Tensor) -> Tensor:
    """Sizes (m) from their logarithms, cut to [1 mm, 30 m]; what is cut has no gradient."""
    return logs.clamp(max=_LARGEST_LOG).exp().clamp(1e-3, 30.0)


def decode_cells(code: Tensor, cell: Tensor, grid: BEVGrid) -> Tensor:
    """Boxes (n, 9) from codes (n, 10) at flat cells (n,) `(b * H + iy) * W + ix`. Sizes are cut to [1 mm, 30 m]."""
    corner = torch.stack([cell % grid.W, torch.div(cell, grid.W, rounding_mode="floor") % grid.H], dim=1)
    xy = grid.to_world(corner.to(code.dtype) + code[:, :2])
    size = decode_size(code[:, 3:6])
    yaw = torch.atan2(code[:, 6:7], code[:, 7:8])
    return torch.cat([xy, code[:, 2:3], size, yaw, code[:, 8:10]], dim=1)


def gather_code(task: TaskOutput, cell: Tensor) -> Tensor:
    """Predicted codes (n, 10) of a task at flat cells (n,)."""
    return read_cells(task.joined, cell)[:, :CODE_WIDTH]
