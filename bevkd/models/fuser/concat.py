"""Fusion of sensor maps by concatenation, an optional channel gate and one convolution (BEVFusion)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bevkd.config.schema import ModelConfig
from bevkd.models.layers import conv_bn_relu
from bevkd.registry import register


@register("fuser", "concat")
class ConcatFuser(nn.Module):
    """Concatenate in the order of `sensors`; gate = sigmoid(1x1 conv(global average)); 3x3 conv + BN + ReLU."""

    def __init__(self, config: ModelConfig, in_channels: list[int]) -> None:
        super().__init__()
        total = sum(in_channels)
        self.gate = nn.Conv2d(total, total, 1) if config.fuser.gate else None
        self.conv = conv_bn_relu(total, config.fuser.out_channels, config.norm)
        self.out_channels = config.fuser.out_channels

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Sensor maps (B, C_i, H, W) to F_low (B, out_channels, H, W), non-negative."""
        x = torch.cat(maps, dim=1)
        if self.gate is not None:
            x = x * torch.sigmoid(self.gate(x.mean(dim=(2, 3), keepdim=True)))
        return self.conv(x)
