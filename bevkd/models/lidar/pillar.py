"""Pillar encoder: dynamic pillar feature net, scatter to the canvas, strided convolutions to the BEV grid."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from bevkd.config.schema import ModelConfig
from bevkd.data.batch import Batch
from bevkd.errors import ConfigError
from bevkd.models.features import FeatureInfo
from bevkd.models.layers import batch_norm_rows, conv_bn_relu, downsampling, full_precision, last_layer
from bevkd.models.lidar.points import PointGroups, group_points, mean_per_cell, point_scale, to_dense
from bevkd.models.outputs import SparseCells
from bevkd.models.stage import SensorEncoder, SensorFeatures
from bevkd.registry import register


@register("lidar_encoder", "pillar")
class PillarEncoder(SensorEncoder):
    """PointPillars' feature net without padding, then one stride-2 convolution per halving of the resolution, down to
    the grid, or to the finer map that the BEV encoder wants (`bev.finer`).

    `lidar.channels` = (pillar feature, one width per stride-2 convolution); a last 3x3 convolution leads to
    `lidar.out_channels` where the widths do not.

    Raises:
        ConfigError: the number of widths does not fit `grid.cell / lidar.cell`, or pillars are larger than the cells
            that are wanted.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        lidar = config.lidar
        grid = config.grid.build()
        stride = downsampling(grid.cell, lidar.cell, "lidar.cell")
        halvings = downsampling(grid.cell / config.finer, lidar.cell, "lidar.cell").bit_length() - 1
        if len(lidar.channels) != halvings + 1:
            raise ConfigError(
                f"lidar.channels: a pillar encoder with stride {2**halvings} wants {halvings + 1} widths, "
                f"got {len(lidar.channels)}"
            )
        self.grid = grid.refined(stride)
        # Offsets to the mean of the pillar's points (x, y, z) and to the pillar's centre (x, y).
        self.linear = nn.Linear(lidar.point_features + 5, lidar.channels[0], bias=False)
        scale = point_scale(config)
        if lidar.normalise:
            scale += [1 / lidar.cell, 1 / lidar.cell, 1.0] + [2 / lidar.cell] * 2
        else:
            scale += [1.0] * 5
        self.register_buffer("scale", torch.tensor(scale), persistent=False)
        self.scale: Tensor
        self.norm = nn.BatchNorm1d(lidar.channels[0], eps=config.norm.eps, momentum=config.norm.momentum)
        # Max pooling hides how old the points of a pillar are on average, and with it which way a thing moves.
        widths = [lidar.channels[0] + int(lidar.mean_age), *lidar.channels[1:]]
        blocks = [conv_bn_relu(a, b, config.norm, stride=2) for a, b in pairwise(widths)]
        if widths[-1] != lidar.out_channels:
            blocks.append(conv_bn_relu(widths[-1], lidar.out_channels, config.norm))
        self.blocks = nn.Sequential(*blocks)
        self.features = {
            "lidar": FeatureInfo(lidar.out_channels, 1 / config.finer),
            "cells": FeatureInfo(widths[0], 1 / stride, "cells"),
        }
        if blocks:
            self.activations = {"lidar": last_layer(blocks[-1])}

    def forward(self, batch: Batch) -> SensorFeatures:
        """BEV map `lidar` (B, out_channels, H, W) and pillar features `cells`; without points the canvas is empty."""
        points, of_frame = self._points(batch)
        # In float32 throughout: autocast over a varying number of points leaks memory on CPU and buys nothing.
        with full_precision(points):
            features, groups = self._pillar_features(points.float(), of_frame)
            frame, _, y, x = groups.coordinates.unbind(1)
            flat = (frame * self.grid.H + y) * self.grid.W + x
            canvas = to_dense(features, flat, len(batch), self.grid.H, self.grid.W)
        cells = SparseCells(features, groups.coordinates[:, [0, 2, 3]])
        return SensorFeatures({"lidar": self.blocks(canvas)}, {"cells": cells})

    def _points(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Points (P, point_features or more): x, y, z, intensity, age, ...; and the frame (P,) of each."""
        if batch.points is None or batch.point_frame is None:
            raise ValueError("the batch has no LiDAR points")
        return batch.points, batch.point_frame

    def _pillar_features(self, points: Tensor, frame: Tensor) -> tuple[Tensor, PointGroups]:
        lidar, z = self.config.lidar, self.config.grid
        groups = group_points(
            points[:, :3], frame, self.grid, (z.z_min, z.z_max), 1, lidar.max_points, lidar.max_voxels
        )
        points = points[groups.index, : lidar.point_features]
        mean = mean_per_cell(points[:, :3], groups)
        centre = self.grid.to_world(groups.coordinates[:, [3, 2]].to(points.dtype) + 0.5)
        augmented = torch.cat([points, points[:, :3] - mean[groups.cell], points[:, :2] - centre[groups.cell]], dim=1)
        hidden = torch.relu(batch_norm_rows(self.norm, self.linear(augmented * self.scale)))
        index = groups.cell[:, None].expand_as(hidden)
        pooled = hidden.new_zeros(len(groups.counts), hidden.shape[1])  # amax with 0 is exact: hidden >= 0
        pooled = pooled.scatter_reduce(0, index, hidden, reduce="amax", include_self=True)
        if lidar.mean_age:  # about [-1, 1]: empty pillars, which stay 0, are neither new nor old
            age = mean_per_cell(points[:, 4:5] * lidar.dt_scale, groups) - 1.0
            pooled = torch.cat([pooled, age], dim=1)
        return pooled, groups
