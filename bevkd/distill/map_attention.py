"""Where a map is active: attention over its cells and channels, and differences of two maps cell by cell.

Maps have their channels last, (B, H, W, C).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from bevkd.models.layers import reads_are_free

_PIECE = 2**16  # numbers
Pool = Literal["absmean", "mean"]


def pooled(maps: Tensor, how: Pool) -> Tensor:
    """One number per cell (B, H, W): the mean of the channels, or of their absolute values (DistillBEV, P(F))."""
    rows = (maps if how == "mean" else maps.abs()).flatten(0, -2)
    return torch.mv(rows, maps.new_full((maps.shape[-1],), 1 / maps.shape[-1])).view(
        maps.shape[:-1]
    )  # faster than mean


def cell_attention(activity: Tensor, tau: float) -> Tensor:
    """Attention (B, H, W), of mean 1 in each frame: H W softmax(activity / tau) over its cells."""
    flat = activity.flatten(1)
    return (flat.shape[1] * torch.softmax(flat / tau, 1)).view_as(activity)


def channel_attention(maps: Tensor, tau: float) -> Tensor:
    """Attention (B, C), of mean 1 in each frame: C softmax(mean |F| / tau) over its channels."""
    activity = maps.abs().mean((1, 2))
    return activity.shape[1] * torch.softmax(activity / tau, 1)


def cell_distances(own: Tensor, taught: Tensor, rectified: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """Squared distances (B, H, W) of two maps (B, H, W, C) in each cell, P of the first, and P of the second: one pass
    over the maps forth and one back. The second map gets no gradient.

    Args:
        own: the student's.
        taught: the teacher's.
        rectified: whether the first comes out of a ReLU, and is its own absolute value.
    """
    found: tuple[Tensor, Tensor, Tensor] = _Distances.apply(own, taught, rectified)
    return found


class _Distances(torch.autograd.Function):
    """By pieces of the maps: what is in between stays in the cache of a CPU, where memory is the bottleneck."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, taught: Tensor, rectified: bool) -> tuple[Tensor, Tensor, Tensor]:
        ctx.save_for_backward(own, taught)
        ctx.rectified = rectified
        ctx.set_materialize_grads(False)
        mean = own.new_full((own.shape[-1],), 1 / own.shape[-1])
        found = own.new_empty(3, own.numel() // own.shape[-1])
        for rows, a, b in _pieces(own, taught):
            torch.linalg.vector_norm(a - b, dim=-1, out=found[0, rows])
            torch.mv(a if rectified else a.abs(), mean, out=found[1, rows])
            torch.mv(b.abs(), mean, out=found[2, rows])
        found[0].square_()
        squares, activity, target = (one.view(own.shape[:-1]) for one in found.unbind())
        ctx.mark_non_differentiable(target)
        return squares, activity, target

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor | None, of_pooled: Tensor | None, _: Any) -> tuple[Tensor, None, None]:
        own, taught = ctx.saved_tensors
        out = torch.empty_like(own, memory_format=torch.contiguous_format)
        twice = (torch.zeros(own.shape[:-1], device=own.device) if grad is None else 2 * grad).reshape(-1, 1)
        each = None if of_pooled is None else (of_pooled / own.shape[-1]).reshape(-1, 1)
        for rows, a, b in _pieces(own, taught):
            into = out.view(-1, own.shape[-1])[rows]
            if each is None:
                torch.mul(a - b, twice[rows], out=into)
            else:  # where what comes out of a ReLU is 0, the ReLU stops the gradient
                constant = each[rows] if ctx.rectified else a.sign().mul_(each[rows])
                torch.addcmul(constant, a - b, twice[rows], out=into)
        return out, None, None


def _pieces(own: Tensor, taught: Tensor) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Rows, and these of both maps."""
    a, b = (maps.flatten(0, -2) for maps in (own, taught))
    step = max(1, _PIECE // a.shape[1]) if reads_are_free(own.device) else len(a)
    for start in range(0, len(a), step):
        rows = slice(start, start + step)
        yield rows, a[rows], b[rows]
