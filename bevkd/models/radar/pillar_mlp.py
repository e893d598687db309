"""The radar encoder of CRKD (arXiv 2403.19104; spec, 3.4, 3.5): linear layers on every point, maximum per pillar."""

from __future__ import annotations

from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

from bevkd.config.schema import ModelConfig
from bevkd.data.batch import Batch
from bevkd.data.inputs.radar_features import KEY
from bevkd.data.radar import FEATURES
from bevkd.models.features import FeatureInfo
from bevkd.models.layers import batch_norm_rows, conv_bn_relu, full_precision, last_layer
from bevkd.models.lidar.points import PointGroups, group_points, to_dense
from bevkd.models.stage import SensorEncoder, SensorFeatures
from bevkd.registry import register

OFFSETS = 2  # of a point from the centre of its pillar, along x and y (m)


@register("radar_encoder", "pillar_mlp")
class PillarMLP(SensorEncoder):
    """Pillars of the size of the grid's cells; `radar` (B, C, H, W), non-negative, zero where there is no point.

    With `radar.calibration` convolutions work on that map, and `radar` is what they make of it: the map before them is
    `radar.raw` (see CRKD's cross-stage distillation, which teaches the calibrated map).
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        radar, norm = config.radar, config.norm
        self.grid = config.grid.build()
        layers = list(pairwise((FEATURES + OFFSETS, *radar.channels)))
        self.linear = nn.ModuleList(nn.Linear(a, b, bias=False) for a, b in layers)
        self.norms = nn.ModuleList(nn.BatchNorm1d(b, eps=norm.eps, momentum=norm.momentum) for _, b in layers)
        low, scale = self._rescaling()
        self.register_buffer("low", low, persistent=False)
        self.register_buffer("scale", scale, persistent=False)
        self.low: Tensor
        self.scale: Tensor
        width = radar.channels[-1]
        self.calibration = nn.Sequential(
            *(conv_bn_relu(width, width, norm, dilation=radar.dilation) for _ in range(radar.calibration))
        )
        self.features = {"radar": FeatureInfo(width)}
        if radar.calibration:
            self.features["radar.raw"] = FeatureInfo(width)
            self.activations = {"radar": last_layer(self.calibration)}
            for module in self.calibration.modules():
                if isinstance(module, nn.Conv2d) and radar.calibration_start == "identity":
                    nn.init.dirac_(module.weight)
                elif isinstance(module, nn.Conv2d):
                    nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def _rescaling(self) -> tuple[Tensor, Tensor]:
        """What is taken from each feature (47,) and what it is then multiplied by: positions go to [0, 1]."""
        radar, grid, area = self.config.radar, self.config.grid, self.config.grid.area
        low, scale = torch.zeros(FEATURES + OFFSETS), torch.ones(FEATURES + OFFSETS)
        low[:3] = torch.tensor([area.x_min, area.y_min, grid.z_min])
        sides = torch.tensor([area.x_max, area.y_max, grid.z_max]) - low[:3]
        scale[:3] = 1 / sides
        scale[3], scale[4:6], scale[6] = radar.rcs_scale, radar.velocity_scale, radar.dt_scale
        return low, scale

    def forward(self, batch: Batch) -> SensorFeatures:
        """BEV map `radar`; without points it is zero before the calibration."""
        if KEY not in batch.extra:
            raise ValueError("the batch has no radar points")
        points, frame = batch.extra[KEY]["points"], batch.extra[KEY]["frame"]
        # In float32 throughout, as the pillars of LiDAR points.
        with full_precision(points):
            rows, groups = self._decorated(points.float(), frame)
            if self.config.radar.padding == "masked":
                pooled = self._largest(self._layers(rows), groups)
            else:
                pooled = self._with_padding(rows, groups)
            at, _, y, x = groups.coordinates.unbind(1)
            flat = (at * self.grid.H + y) * self.grid.W + x
            canvas = to_dense(pooled, flat, len(batch), self.grid.H, self.grid.W)
        if not self.config.radar.calibration:
            return SensorFeatures({"radar": canvas})
        return SensorFeatures({"radar": self.calibration(canvas), "radar.raw": canvas})

    def _decorated(self, points: Tensor, frame: Tensor) -> tuple[Tensor, PointGroups]:
        """Rescaled features and offsets (P', 47) of the points that are kept, in the order of pillars."""
        z = self.config.grid
        groups = group_points(
            points[:, :3], frame, self.grid, (z.z_min, z.z_max), max_points=self.config.radar.max_points
        )
        points = points[groups.index]
        centre = self.grid.to_world(groups.coordinates[:, [3, 2]].to(points.dtype) + 0.5)
        rows = torch.cat([points, points[:, :2] - centre[groups.cell]], dim=1)
        return (rows - self.low) * self.scale, groups

    def _layers(self, rows: Tensor) -> Tensor:
        for linear, norm in zip(self.linear, self.norms, strict=True):
            rows = torch.relu(batch_norm_rows(norm, linear(rows)))
        return rows

    @staticmethod
    def _largest(hidden: Tensor, groups: PointGroups) -> Tensor:
        """Maximum (V, C) over the points of each pillar."""
        index = groups.cell[:, None].expand_as(hidden)
        pooled = hidden.new_zeros(len(groups.counts), hidden.shape[1])  # amax with 0 is exact: hidden >= 0
        return pooled.scatter_reduce(0, index, hidden, reduce="amax", include_self=True)

    def _with_padding(self, rows: Tensor, groups: PointGroups) -> Tensor:
        """As the public code: every pillar has `max_points` rows, zeros where it has no point."""
        size = cast(int, self.config.radar.max_points)
        start = groups.counts.cumsum(0) - groups.counts
        rank = torch.arange(len(rows), device=rows.device) - start[groups.cell]
        padded = rows.new_zeros(len(groups.counts) * size, rows.shape[1])
        padded = padded.index_copy(0, groups.cell * size + rank, rows)
        return self._layers(padded).unflatten(0, (len(groups.counts), size)).amax(dim=1)
