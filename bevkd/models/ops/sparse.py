"""Sparse 3D convolution in plain torch: sorted cell keys, kernel pairs by binary search, gather / index_add.

spconv takes over at run time where it is installed (see `sparse_backend`); it must give the same numbers.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from bevkd.models.ops.sparse_backend import backend
from bevkd.models.ops.sparse_map import KernelPairs, Size3, SparseMap, find_pairs, output_shape


class _PairedConvolution(torch.autograd.Function):
    """out[target] += features[source] @ weight[k], one kernel offset at a time: no (V, 27, C) tensor."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, pairs: KernelPairs) -> Tensor:
        ctx.save_for_backward(features, weight)
        ctx.pairs = pairs
        out = features.new_zeros(len(pairs.coordinates), weight.shape[2])
        for k, (source, target) in enumerate(_by_offset(pairs)):
            if len(source):
                out.index_add_(0, target, features[source] @ weight[k])
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        features, weight = ctx.saved_tensors
        grad_features, grad_weight = torch.zeros_like(features), torch.zeros_like(weight)
        for k, (source, target) in enumerate(_by_offset(ctx.pairs)):
            if len(source):
                part = grad[target]
                grad_weight[k] = features[source].T @ part
                grad_features.index_add_(0, source, part @ weight[k].T)
        return grad_features, grad_weight, None


def _by_offset(pairs: KernelPairs) -> list[tuple[Tensor, Tensor]]:
    return list(zip(pairs.source.split(pairs.counts), pairs.target.split(pairs.counts), strict=True))


class SparseConv3d(nn.Module):
    """Sparse convolution without bias; kernel, stride and padding are (z, y, x).

    Attributes:
        weight: (out, kz, ky, kx, in), the layout of spconv.

    Args:
        c_in: input channels.
        c_out: output channels.
        kernel: kernel size.
        stride: stride; ignored for submanifold layers.
        padding: padding; submanifold layers pad to keep the size.
        submanifold: output voxels = input voxels.
        key: layers with the same key on the same voxels share their kernel pairs.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        kernel: Size3 = (3, 3, 3),
        stride: Size3 = (1, 1, 1),
        padding: Size3 = (1, 1, 1),
        *,
        submanifold: bool = False,
        key: str = "",
    ) -> None:
        super().__init__()
        self.kernel, self.submanifold, self.key = kernel, submanifold, key
        self.stride = (1, 1, 1) if submanifold else stride
        self.padding = (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2) if submanifold else padding
        self.weight = nn.Parameter(torch.empty(c_out, *kernel, c_in))
        fan_in = c_in * kernel[0] * kernel[1] * kernel[2]
        nn.init.normal_(self.weight, std=(2 / fan_in) ** 0.5)

    def forward(self, x: SparseMap) -> SparseMap:
        """Convolve; float32 in, float32 out."""
        pairs = x.pairs.get(self.key) if self.key else None
        # Accelerated kernels refuse empty tensors; a frame without points has nothing to accelerate.
        accelerated = backend(x.features) if len(x.features) else None
        if pairs is None:
            find = find_pairs if accelerated is None else accelerated.find_pairs
            pairs = find(x, self.kernel, self.stride, self.padding, self.submanifold)
            if self.key:
                x.pairs[self.key] = pairs
        if accelerated is None:
            weight = self.weight.flatten(1, 3).permute(1, 2, 0).contiguous()  # (kernel, in, out)
            features = _PairedConvolution.apply(x.features, weight, pairs)
        else:
            features = accelerated.convolve(x.features, self.weight, pairs, self.submanifold)
        if self.submanifold:
            return x.with_features(features)
        shape = output_shape(x.shape, self.kernel, self.stride, self.padding)
        return SparseMap(features, pairs.coordinates, shape, x.frames)
