"""Sparse 3D convolution in plain torch: sorted cell keys, kernel pairs by binary search, gather / index_add.

spconv takes over at run time where it is installed (see `sparse_backend`); it must give the same numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

Size3 = tuple[int, int, int]


@dataclass
class KernelPairs:
    """Which input row meets which output row under each kernel offset.

    Attributes:
        source: (n,) int64 input rows, grouped by kernel offset.
        target: (n,) int64 output rows.
        counts: number of pairs per kernel offset, kernel in (z, y, x) order.
        coordinates: (V_out, 4) of the output.
        foreign: what an accelerated backend keeps instead of the lists.
    """

    source: Tensor
    target: Tensor
    counts: list[int]
    coordinates: Tensor
    foreign: Any = None


@dataclass
class SparseMap:
    """Features of occupied voxels.

    Attributes:
        features: (V, C).
        coordinates: (V, 4) int64 (frame, z, y, x), without duplicates.
        shape: (D, H, W).
        frames: batch size.
        pairs: kernel pairs by key; submanifold layers with one key share them.
    """

    features: Tensor
    coordinates: Tensor
    shape: Size3
    frames: int
    pairs: dict[str, KernelPairs] = field(default_factory=dict)

    def with_features(self, features: Tensor) -> SparseMap:
        """The same voxels with other features."""
        return SparseMap(features, self.coordinates, self.shape, self.frames, self.pairs)

    def dense(self) -> Tensor:
        """Dense tensor (B, C, D, H, W), zero in empty voxels."""
        depth, height, width = self.shape
        flat = voxel_keys(self.coordinates, self.shape)
        volume = self.frames * depth * height * width
        canvas = self.features.new_zeros(volume, self.features.shape[1]).index_copy(0, flat, self.features)
        return canvas.view(self.frames, depth, height, width, -1).permute(0, 4, 1, 2, 3).contiguous()


def voxel_keys(coordinates: Tensor, shape: Size3) -> Tensor:
    """One int64 key (V,) per voxel (V, 4), ascending in (frame, z, y, x)."""
    frame, z, y, x = coordinates.unbind(1)
    return ((frame * shape[0] + z) * shape[1] + y) * shape[2] + x


def output_shape(shape: Size3, kernel: Size3, stride: Size3, padding: Size3) -> Size3:
    """Grid size after a strided convolution."""
    d, h, w = ((n + 2 * p - k) // s + 1 for n, k, s, p in zip(shape, kernel, stride, padding, strict=True))
    return d, h, w


def find_pairs(x: SparseMap, kernel: Size3, stride: Size3, padding: Size3, submanifold: bool) -> KernelPairs:
    """Kernel pairs in plain torch. Submanifold output has the input's voxels, else every voxel that is reached."""
    out_shape = x.shape if submanifold else output_shape(x.shape, kernel, stride, padding)
    limit = x.coordinates.new_tensor(out_shape)
    step, pad = x.coordinates.new_tensor(stride), x.coordinates.new_tensor(padding)
    rows, keys, counts = [], [], []
    for offset in product(*(range(k) for k in kernel)):
        # Output cell o sees input cell o * stride - padding + offset.
        reached = x.coordinates[:, 1:] + pad - x.coordinates.new_tensor(offset)
        cell = torch.div(reached, step, rounding_mode="floor")
        valid = ((reached % step == 0) & (cell >= 0) & (cell < limit)).all(dim=1)
        row = valid.nonzero().squeeze(1)
        rows.append(row)
        keys.append(voxel_keys(torch.cat([x.coordinates[row, :1], cell[row]], dim=1), out_shape))
        counts.append(len(row))
    source, key = torch.cat(rows), torch.cat(keys)
    if not submanifold:
        distinct, target = torch.unique(key, return_inverse=True)
        return KernelPairs(source, target, counts, _coordinates(distinct, out_shape))
    ordered, order = torch.sort(voxel_keys(x.coordinates, x.shape))
    if len(ordered) == 0:
        return KernelPairs(source, key, counts, x.coordinates)
    place = torch.searchsorted(ordered, key).clamp(max=len(ordered) - 1)
    found = ordered[place] == key
    counts = [int(part.sum()) for part in found.split(counts)]
    return KernelPairs(source[found], order[place[found]], counts, x.coordinates)


def _coordinates(keys: Tensor, shape: Size3) -> Tensor:
    rest, w = torch.div(keys, shape[2], rounding_mode="floor"), keys % shape[2]
    rest, h = torch.div(rest, shape[1], rounding_mode="floor"), rest % shape[1]
    return torch.stack([torch.div(rest, shape[0], rounding_mode="floor"), rest % shape[0], h, w], dim=1)


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
        from bevkd.models.ops.sparse_backend import backend

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
