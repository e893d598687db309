"""Relations among the tokens of resized maps: CRKD's relation loss."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from bevkd.distill.pairwise import unit_rows


def resized(maps: Tensor, size: int) -> Tensor:
    """Maps (B, C, H, W) at `size` x `size` cells in float32: bilinear between cell centres, without antialiasing."""
    return F.interpolate(maps.float(), size=(size, size), mode="bilinear", align_corners=False)


def token_relation(teacher: Tensor, student: Tensor, cosine: bool = True) -> Tensor:
    """Mean |C_S - C_T| over frames and pairs of tokens of maps (B, C, d, d), whose widths C may differ.

    Args:
        teacher: without a gradient.
        student: of the same d.
        cosine: C holds cosines; otherwise dot products.
    """
    t, s = (maps.flatten(2).transpose(1, 2) for maps in (teacher.float(), student.float()))  # (B, d * d, C)
    if cosine:
        t, s = unit_rows(t), unit_rows(s)
    # The difference comes out of the product itself: the matrices have d^4 numbers per frame, up to a million.
    difference = torch.baddbmm(t @ t.transpose(1, 2), s, s.transpose(1, 2), beta=-1)
    return difference.abs().mean()
