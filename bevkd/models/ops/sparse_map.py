"""Occupied voxels and the kernel pairs among them, which every implementation of sparse convolutions shares."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product
from typing import Any

import torch
from torch import Tensor

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
