"""Normalisers of losses that mean the same with one process and with many."""

from __future__ import annotations

import torch
from torch import Tensor
from torch import distributed as dist


def _distributed() -> bool:
    return dist.is_available() and dist.is_initialized()


def one_over_ranks() -> float:
    """The least positive value that `rank_mean` of a count can have: what 1 is for a single process."""
    return 1.0 / dist.get_world_size() if _distributed() else 1.0


def rank_mean(value: Tensor | float | int, device: torch.device | None = None) -> Tensor:
    """Mean of a scalar over all ranks, detached; the value itself without torch.distributed.

    Dividing a per-rank sum by the rank mean of its count makes the average of the per-rank gradients equal to the
    gradient of the whole batch. Every rank must call it equally often, also when it has nothing to compare.
    """
    out = torch.as_tensor(value, dtype=torch.float32, device=None if isinstance(value, Tensor) else device)
    out = out.detach().clone()
    if _distributed():
        dist.all_reduce(out)
        out /= dist.get_world_size()
    return out


def rank_count(value: Tensor | float | int, device: torch.device | None = None) -> Tensor:
    """`rank_mean` of a count to divide by: where nothing is counted, as if one rank had counted one thing."""
    return rank_mean(value, device).clamp(min=one_over_ranks())
