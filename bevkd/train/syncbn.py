"""Batch normalisation over all processes on any backend: torch's own `SyncBatchNorm` needs a GPU.

With it, N processes on N shards of a batch compute the statistics, and so the gradients, of one process on the
whole batch.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class _AllReduceSum(torch.autograd.Function):
    """Sum over processes; the gradient of a sum that every process sees is the sum of their gradients."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        total = value.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].contiguous().clone()
        dist.all_reduce(total)
        return total


class AllReduceBatchNorm(_BatchNorm):
    """BatchNorm1d/2d/3d whose training statistics are those of the global batch, by two all-reduces of C numbers.

    State dictionaries are those of the layer it replaces.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"wants (N, C, ...), got {tuple(input.shape)}")

    def forward(self, input: Tensor) -> Tensor:
        """Normalise (N, C, ...); plain batch normalisation in eval mode or in a single process."""
        if not self.training or not dist.is_initialized() or dist.get_world_size() == 1:
            return super().forward(input)
        self._check_input_dim(input)
        x = input.float()  # as the fused kernels do under autocast
        axes = [axis for axis in range(x.dim()) if axis != 1]
        shape = [1, -1] + [1] * (x.dim() - 2)
        n_local = x.new_full((1,), x.numel() / x.shape[1])
        sums = _AllReduceSum.apply(torch.cat([x.sum(axes), n_local]))
        n = sums[-1].detach().clamp(min=1)
        mean = sums[:-1] / n
        centred = x - mean.view(shape)  # second pass about the mean: E[x^2] - mean^2 would cancel
        variance = _AllReduceSum.apply(centred.square().sum(axes)) / n
        self._update(mean.detach(), variance.detach(), n)
        out = centred * torch.rsqrt(variance + self.eps).view(shape)
        if self.affine:
            out = out * self.weight.float().view(shape) + self.bias.float().view(shape)
        return out.to(input.dtype)

    @torch.no_grad()
    def _update(self, mean: Tensor, variance: Tensor, n: Tensor) -> None:
        if not self.track_running_stats or self.running_mean is None or self.running_var is None:
            return
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        momentum = self.momentum if self.momentum is not None else 1.0 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), momentum)
        unbiased = variance * n / (n - 1).clamp(min=1)
        self.running_var.lerp_(unbiased.to(self.running_var.dtype), momentum)


def synchronise_batch_norm(module: nn.Module, device_type: str) -> nn.Module:
    """Replace every batch normalisation of `module` by one over all processes; parameters and buffers are shared.

    Returns:
        The module itself, or the replacement when it is a normalisation layer.
    """
    if device_type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(module)
    if isinstance(module, _BatchNorm) and not isinstance(module, (AllReduceBatchNorm, nn.SyncBatchNorm)):
        new = AllReduceBatchNorm(
            module.num_features, module.eps, module.momentum, module.affine, module.track_running_stats
        )
        new._parameters, new._buffers = module._parameters, module._buffers
        return new.train(module.training)
    for name, child in module.named_children():
        replacement = synchronise_batch_norm(child, device_type)
        if replacement is not child:
            setattr(module, name, replacement)
    return module
