"""Voxel encoder: mean of the points, sparse 3D residual network, height folded into channels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bevkd.config.schema import ModelConfig, NormConfig
from bevkd.data.batch import Batch
from bevkd.errors import ConfigError
from bevkd.models.features import FeatureInfo
from bevkd.models.layers import batch_norm_rows, conv_bn_relu, downsampling, full_precision, last_layer
from bevkd.models.lidar.points import group_points, mean_per_cell, point_scale
from bevkd.models.ops.sparse import SparseConv3d
from bevkd.models.ops.sparse_map import SparseMap, output_shape
from bevkd.models.outputs import SparseCells
from bevkd.models.stage import SensorEncoder, SensorFeatures
from bevkd.registry import register


class _ConvNormReLU(nn.Module):
    def __init__(self, conv: SparseConv3d, norm: NormConfig) -> None:
        super().__init__()
        self.conv = conv
        self.norm = nn.BatchNorm1d(conv.weight.shape[0], eps=norm.eps, momentum=norm.momentum)

    def forward(self, x: SparseMap) -> SparseMap:
        y = self.conv(x)
        return y.with_features(torch.relu(batch_norm_rows(self.norm, y.features)))


class _Residual(nn.Module):
    """Two submanifold convolutions with a skip; the sum is rectified."""

    def __init__(self, width: int, key: str, norm: NormConfig) -> None:
        super().__init__()
        self.first = _ConvNormReLU(SparseConv3d(width, width, submanifold=True, key=key), norm)
        self.second = SparseConv3d(width, width, submanifold=True, key=key)
        self.norm = nn.BatchNorm1d(width, eps=norm.eps, momentum=norm.momentum)

    def forward(self, x: SparseMap) -> SparseMap:
        y = self.second(self.first(x))
        return y.with_features(torch.relu(batch_norm_rows(self.norm, y.features) + x.features))


@register("lidar_encoder", "voxel")
class VoxelEncoder(SensorEncoder):
    """CenterPoint's sparse encoder (UniDistill spec, 4.2), its depth derived from `grid.cell / lidar.cell`.

    Stages: one submanifold convolution to `channels[0]`; two residual blocks; per halving a stride-2 convolution to
    the next width and two residual blocks, the last halving without padding in z; a (3, 1, 1) convolution of stride
    (2, 1, 1). Height folds into channels as `c * depth + z`; where that is not `lidar.out_channels`, a 1x1 convolution
    follows (not at the published settings).

    Raises:
        ConfigError: the number of widths does not fit, or the grid is too low for the z strides.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        lidar, z, norm = config.lidar, config.grid, config.norm
        grid = z.build()
        stride = downsampling(grid.cell, lidar.cell, "lidar.cell")
        halvings = stride.bit_length() - 1
        if len(lidar.channels) != halvings + 1:
            raise ConfigError(
                f"lidar.channels: a voxel encoder with stride {stride} wants {halvings + 1} widths, "
                f"got {len(lidar.channels)}"
            )
        self.grid = grid.refined(stride)
        self.layers = round((z.z_max - z.z_min) / lidar.z_cell)
        if self.layers < 1 or abs(self.layers * lidar.z_cell - (z.z_max - z.z_min)) > 1e-6:
            raise ConfigError("lidar.z_cell does not divide grid.z_max - grid.z_min")
        self.register_buffer("scale", torch.tensor(point_scale(config)), persistent=False)
        self.scale: Tensor
        # One empty layer on top, as in the published networks: 41 -> 21 -> 11 -> 5 -> 2.
        self.shape = (self.layers + 1, self.grid.H, self.grid.W)
        widths = list(lidar.channels)
        first = SparseConv3d(lidar.point_features, widths[0], submanifold=True, key="stage1")
        blocks: list[nn.Module] = [_ConvNormReLU(first, norm)]
        blocks += [_Residual(widths[0], "stage1", norm) for _ in range(2)]
        shape = self.shape
        for i in range(1, len(widths)):
            padding = (0 if i == halvings else 1, 1, 1)
            down = SparseConv3d(widths[i - 1], widths[i], stride=(2, 2, 2), padding=padding)
            shape = output_shape(shape, down.kernel, down.stride, down.padding)
            blocks.append(_ConvNormReLU(down, norm))
            blocks += [_Residual(widths[i], f"stage{i + 1}", norm) for _ in range(2)]
        out = SparseConv3d(widths[-1], widths[-1], (3, 1, 1), (2, 1, 1), (0, 0, 0))
        shape = output_shape(shape, out.kernel, out.stride, out.padding)
        if shape[0] < 1:
            raise ConfigError(f"lidar.z_cell: {self.layers} height layers are too few for {halvings} halvings")
        blocks.append(_ConvNormReLU(out, norm))
        self.blocks = nn.ModuleList(blocks)
        folded = widths[-1] * shape[0]
        self.project = None if folded == lidar.out_channels else conv_bn_relu(folded, lidar.out_channels, norm, 1)
        self.features = {
            "lidar": FeatureInfo(lidar.out_channels),
            "cells": FeatureInfo(widths[-1], 1, "cells"),
        }
        if self.project is not None:
            self.activations = {"lidar": last_layer(self.project)}

    def forward(self, batch: Batch) -> SensorFeatures:
        """BEV map `lidar` (B, out_channels, H, W), non-negative, and `cells`, the features of the last sparse stage."""
        if batch.points is None or batch.point_frame is None:
            raise ValueError("the batch has no LiDAR points")
        # Sparse kernels know no bfloat16, and autocast over a varying number of rows leaks memory on CPU.
        with full_precision(batch.points):
            x = self._voxels(batch.points.float(), batch.point_frame, len(batch))
            for block in self.blocks:
                x = block(x)
            volume = x.dense()  # (B, C, D, H, W)
        bev = volume.flatten(1, 2)
        if self.project is not None:
            bev = self.project(bev)
        return SensorFeatures({"lidar": bev}, {"cells": SparseCells(x.features, x.coordinates)})

    def _voxels(self, points: Tensor, frame: Tensor, frames: int) -> SparseMap:
        lidar, z = self.config.lidar, self.config.grid
        z_range = (z.z_min, z.z_max)
        groups = group_points(points[:, :3], frame, self.grid, z_range, self.layers, lidar.max_points, lidar.max_voxels)
        values = points[groups.index, : lidar.point_features]
        return SparseMap(mean_per_cell(values, groups) * self.scale, groups.coordinates, self.shape, frames)
