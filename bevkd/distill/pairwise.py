"""Differences between teacher and student at ragged points and cells, and cosine relations among them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from bevkd.distill.sampling import pad_ragged
from bevkd.ranks import rank_mean

# Added to counts and norms, as in UniDistill's code; the golden values depend on it.
EPS = 1e-4


def cosine_matrix(features: Tensor) -> Tensor:
    """Cosines (..., P, P) among rows of features (..., P, C); a zero row has zero cosines and a zero gradient."""
    unit = unit_rows(features)
    return unit @ unit.transpose(-1, -2)


def unit_rows(features: Tensor) -> Tensor:
    """Rows of features (..., P, C) at length 1; zero rows stay."""
    return features / (torch.linalg.vector_norm(features, dim=-1, keepdim=True) + EPS)


def per_box(difference: Tensor) -> Tensor:
    """Mean absolute value per box of (N, ...), summed over boxes, over the rank mean of N."""
    boxes = rank_mean(len(difference), difference.device)
    size = difference[0].numel() if len(difference) else 1
    return difference.abs().sum() / size / (boxes + EPS)


def weighted(difference: Tensor, weight: Tensor) -> Tensor:
    """Mean absolute value over channels of cells (n, C), weighted by (n,), over the rank mean of the weights."""
    return (weight * difference.abs().mean(-1)).sum() / (rank_mean(weight.sum()) + EPS)


def pool_to(maps: Tensor, longest: int = 45) -> Tensor:
    """Average-pool maps (B, C, H, W) by the smallest whole factor that leaves at most `longest` cells a side."""
    factor = -(-max(maps.shape[-2:]) // longest)
    return F.avg_pool2d(maps.float(), factor, ceil_mode=True, count_include_pad=False)


def map_relation(teacher: Tensor, student: Tensor) -> Tensor:
    """Mean |difference| of the cosine matrices among all cells of maps (B, C, h, w)."""
    t, s = (cosine_matrix(maps.flatten(2).transpose(1, 2)) for maps in (teacher.float(), student.float()))
    return (t - s).abs().mean()


def cell_relation(teacher: Tensor, student: Tensor, frame: Tensor, batch_size: int) -> Tensor:
    """Mean |difference| of the cosine matrices among the cells (n, C) of each frame, then over frames with cells."""
    t, mask = pad_ragged(teacher, frame, batch_size)
    s, _ = pad_ragged(student, frame, batch_size)
    count = mask.sum(1)
    # Padded rows are zero vectors in both, so that their cosines cancel.
    difference = (cosine_matrix(t) - cosine_matrix(s)).abs().sum((1, 2)) / (count * count).clamp(min=1)
    return difference.sum() / (rank_mean((count > 0).sum()) + EPS)


def affinity(level: Tensor, size: tuple[int, int]) -> Tensor:
    """Dot products (M, s, s) among the cells of each image of a level (M, C, h, w), resized to `size`, s = h' * w'."""
    small = F.adaptive_avg_pool2d(level.float(), size).flatten(2)
    return small.transpose(1, 2) @ small
