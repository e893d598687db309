"""UniDistill's nine crucial points of a box in BEV: corners, centre, edge midpoints."""

from __future__ import annotations

import torch
from torch import Tensor

# In units of (l / 2, w / 2): corners c0..c3, centre m, edge midpoints e1..e4 between c0-c1, c1-c2, c2-c3, c0-c3.
_OFFSETS = ((-1, -1), (-1, 1), (1, 1), (1, -1), (0, 0), (-1, 0), (0, 1), (1, 0), (0, -1))
POINTS = len(_OFFSETS)


def crucial_points(boxes: Tensor) -> Tensor:
    """World x, y (N, 9, 2) in metres of boxes (N, 7+), in the order c0 c1 c2 c3 m e1 e2 e3 e4."""
    half = boxes[:, 3:5] / 2
    local = boxes.new_tensor(_OFFSETS) * half[:, None]  # (N, 9, 2) along and across the heading
    cos, sin = torch.cos(boxes[:, 6:7]), torch.sin(boxes[:, 6:7])
    x = cos * local[..., 0] - sin * local[..., 1]
    y = sin * local[..., 0] + cos * local[..., 1]
    return torch.stack([x, y], dim=-1) + boxes[:, None, :2]
