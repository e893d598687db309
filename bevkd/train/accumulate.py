"""Loss and gradient of a batch that is worked through in parts, equal to those of the whole but for batch norms.

Batch norms see one part at a time, as they see one process's frames without `sync_bn`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from bevkd.data.batch import Batch
from bevkd.ranks import PartCounts


def forward_backward(
    fabric: Fabric, module: Any, parts: Sequence[Batch], seed: Callable[[int], None]
) -> dict[str, Tensor]:
    """Add the gradient of a batch to the parameters.

    Args:
        fabric: of the training.
        module: losses of a batch: a `TrainStep` as Fabric has set it up.
        parts: the batch; several must have equally many frames.
        seed: sets the random numbers of a part.

    Returns:
        Losses of the batch.
    """
    if len(parts) == 1:
        seed(0)
        losses: dict[str, Tensor] = module(parts[0])
        fabric.backward(losses["total"])
        return losses
    counts = PartCounts(len(parts))
    with torch.no_grad(), _buffers_kept(module):
        for number, part in enumerate(parts):
            seed(number)
            with counts.counted():
                module(part)
    sums: dict[str, Tensor] = {}
    for number, part in enumerate(parts):
        seed(number)
        last = number == len(parts) - 1
        with counts.shared(), fabric.no_backward_sync(module, enabled=not last):
            losses = module(part)
            fabric.backward(losses["total"] / len(parts))
        for name, value in losses.items():
            share = value.detach() / len(parts)
            sums[name] = sums[name] + share if name in sums else share
    return sums


@contextmanager
def _buffers_kept(module: nn.Module) -> Iterator[None]:
    """Running statistics are those of the pass with gradients alone."""
    kept = [(buffer, buffer.clone()) for buffer in module.buffers()]
    try:
        yield
    finally:
        for buffer, before in kept:
            buffer.copy_(before)
