"""Fusion of sensor maps by concatenation, an optional channel gate and one convolution (BEVFusion)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from bevkd.config.schema import ModelConfig
from bevkd.models.features import FeatureInfo
from bevkd.models.fuser.base import Fused, Fuser
from bevkd.models.layers import conv_bn_relu
from bevkd.registry import register


@register("fuser", "concat")
class ConcatFuser(Fuser):
    """Concatenate in the order of `sensors`; gate = sigmoid(1x1 conv(global average)); 3x3 conv + BN + ReLU."""

    def __init__(self, config: ModelConfig, channels: Mapping[str, int]) -> None:
        super().__init__(config, channels)
        total = sum(channels.values())
        self.gate = nn.Conv2d(total, total, 1) if config.fuser.gate else None
        self.conv = conv_bn_relu(total, config.fuser.out_channels, config.norm.of(config.fuser))
        self.features = {"low": FeatureInfo(config.fuser.out_channels)}
        self.activations = {"low": self.conv[-1]}

    def forward(self, maps: Mapping[str, Tensor]) -> Fused:
        """Sensor maps (B, C_i, H, W) to F_low (B, out_channels, H, W), non-negative."""
        x = torch.cat(list(maps.values()), dim=1)
        if self.gate is not None:
            x = x * torch.sigmoid(self.gate(x.mean(dim=(2, 3), keepdim=True)))
        return Fused(self.conv(x))
