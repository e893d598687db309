"""Fusion of sensor maps that are gated cell by cell (CRKD, arXiv 2403.19104, section 3.1; spec, 3.6)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from bevkd.config.schema import ModelConfig
from bevkd.models.features import FeatureInfo
from bevkd.models.fuser.base import Fused, Fuser
from bevkd.models.layers import conv_bn_relu
from bevkd.registry import register


@register("fuser", "gated")
class GatedFuser(Fuser):
    """W_i = sigmoid(conv3x3(F)), F all maps; G_i = F_i * W_i; F_low = ReLU(BN(conv3x3(G))), G all gated maps.

    One convolution makes the gates of all sensors: its output channels are those of one convolution per sensor.
    """

    def __init__(self, config: ModelConfig, channels: Mapping[str, int]) -> None:
        super().__init__(config, channels)
        total, width = sum(channels.values()), config.fuser.out_channels
        self.channels = dict(channels)
        self.gate = nn.Conv2d(total, total, 3, padding=1)
        self.conv = conv_bn_relu(total, width, config.norm.of(config.fuser))
        self.features = {"low": FeatureInfo(width)} | {f"gated.{name}": FeatureInfo(c) for name, c in channels.items()}
        self.activations = {"low": self.conv[-1]}

    def forward(self, maps: Mapping[str, Tensor]) -> Fused:
        """Maps (B, C_i, H, W) to F_low (B, out_channels, H, W), non-negative, and each map gated, `gated.<name>`."""
        together = torch.cat([maps[name] for name in self.channels], dim=1)
        gated = together * torch.sigmoid(self.gate(together))
        parts = gated.split(list(self.channels.values()), dim=1)
        return Fused(self.conv(gated), {f"gated.{name}": part for name, part in zip(self.channels, parts, strict=True)})
