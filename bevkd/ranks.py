"""Normalisers of losses that mean the same with one process and with many, with a batch at once and in parts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch import distributed as dist


def _distributed() -> bool:
    return dist.is_available() and dist.is_initialized()


class PartCounts:
    """Normalisers of a batch that a process works through in parts: each part divides by the mean over all of them.

    That mean must be known before the first part is taught, so every part is computed twice: under `counted` without
    a gradient, then under `shared`. Between the two nothing may change that a normaliser depends on. A normaliser must
    not depend on another: what is normalised already is multiplied out again first.

    Args:
        parts: their number.
    """

    def __init__(self, parts: int) -> None:
        self.parts = parts
        self._seen: list[Tensor] = []
        self._means: list[Tensor] = []
        self._next: Iterator[Tensor] | None = None

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Note the normalisers of a part."""
        self._seen = []
        with _using(self):
            yield
        sums = self._means or [torch.zeros_like(value) for value in self._seen]
        self._means = [mean + value / self.parts for mean, value in zip(sums, self._seen, strict=True)]

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Normalise a part as the whole batch.

        Raises:
            RuntimeError: the part asks for more or fewer normalisers than were counted, so that they are of another
                thing than it takes them for.
        """
        self._next = iter(self._means)
        try:
            with _using(self):
                yield
            if next(self._next, None) is not None:
                raise RuntimeError("a part of a batch asked for fewer normalisers than were counted")
        finally:
            self._next = None

    def __call__(self, value: Tensor) -> Tensor:
        """The mean over all parts of the next normaliser; while they are counted, this part's own."""
        if self._next is not None:
            mean = next(self._next, None)
            if mean is None:
                raise RuntimeError("a part of a batch asks for more normalisers than were counted")
            return mean
        out = _over_ranks(value)
        self._seen.append(out)
        return out


_parts: PartCounts | None = None


@contextmanager
def _using(counts: PartCounts) -> Iterator[None]:
    global _parts
    _parts = counts
    try:
        yield
    finally:
        _parts = None


def _over_ranks(value: Tensor) -> Tensor:
    if _distributed():
        dist.all_reduce(value)
        value /= dist.get_world_size()
    return value


def in_parts() -> bool:
    """Whether what is computed is one of several parts of a batch."""
    return _parts is not None


def one_over_ranks() -> float:
    """The least positive value that `rank_mean` of a count can have: what 1 is for a single process and batch."""
    return 1.0 / ((dist.get_world_size() if _distributed() else 1) * (_parts.parts if _parts is not None else 1))


def rank_mean(value: Tensor | float | int, device: torch.device | None = None) -> Tensor:
    """Mean of a scalar over all ranks, detached; the value itself without torch.distributed.

    Dividing a per-rank sum by the rank mean of its count makes the average of the per-rank gradients equal to the
    gradient of the whole batch. Every rank must call it equally often, also when it has nothing to compare. The parts
    of a batch (`PartCounts`) are like ranks.
    """
    out = torch.as_tensor(value, dtype=torch.float32, device=None if isinstance(value, Tensor) else device)
    out = out.detach().clone()
    return _parts(out) if _parts is not None else _over_ranks(out)


def rank_count(value: Tensor | float | int, device: torch.device | None = None) -> Tensor:
    """`rank_mean` of a count to divide by: where nothing is counted anywhere, 1 for every rank.

    What is divided by it may be there without anything that is counted (the background of a heat map). Its mean over
    the ranks is then what is taught, whatever their number. The parts of a batch share one such 1: together they teach
    what the batch at once would.
    """
    mean = rank_mean(value, device)
    nothing = 1.0 / (_parts.parts if _parts is not None else 1)
    return torch.where(mean > 0, mean.clamp(min=one_over_ranks()), nothing)
