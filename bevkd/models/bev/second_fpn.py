"""BEV encoder: chained convolution blocks, each brought back to the resolution of the input, concatenated."""

from __future__ import annotations

from torch import Tensor, nn

from bevkd.config.schema import ModelConfig
from bevkd.errors import ConfigError
from bevkd.models.bev.base import BEVEncoder
from bevkd.models.features import FeatureInfo
from bevkd.models.layers import MergedLevels, conv_bn_relu, last_layer, up_conv
from bevkd.registry import register


@register("bev_encoder", "second_fpn")
class SecondFPN(BEVEncoder):
    """SECOND's backbone with its FPN.

    `bev.strides` are relative to the input map and cumulative: (1, 2) is a block at full and one at half resolution,
    (2, 4) starts by halving. Block i has one (strided) and `bev.depths[i]` further 3x3 convolutions. The output has
    `up_channels` channels per block.

    Raises:
        ConfigError: unequal lengths, or a stride that the one before does not divide.
    """

    def __init__(self, config: ModelConfig, in_channels: int) -> None:
        super().__init__(config, in_channels)
        bev, norm = config.bev, config.norm
        if not len(bev.widths) == len(bev.depths) == len(bev.strides) > 0:
            raise ConfigError("bev: widths, depths and strides must have one entry per block")
        before = (1, *bev.strides[:-1])
        if any(s < 1 or s % b for s, b in zip(bev.strides, before, strict=True)):
            raise ConfigError(f"bev.strides {bev.strides} are not multiples of each other")
        grid = config.grid.build()
        if grid.H % bev.strides[-1] or grid.W % bev.strides[-1]:
            raise ConfigError(f"bev.strides: {bev.strides[-1]} does not divide the {grid.W} x {grid.H} grid")
        blocks: list[nn.Module] = []
        ups: list[nn.Module] = []
        width = in_channels
        for out, depth, stride, last in zip(bev.widths, bev.depths, bev.strides, before, strict=True):
            layers = [conv_bn_relu(width, out, norm, stride=stride // last)]
            layers += [conv_bn_relu(out, out, norm) for _ in range(depth)]
            blocks.append(nn.Sequential(*layers))
            ups.append(up_conv(out, bev.up_channels, stride))
            width = out
        self.blocks = nn.ModuleList(blocks)
        self.merge = MergedLevels(ups, bev.up_channels * len(bev.widths), norm)
        for k, (out, stride) in enumerate(zip(bev.widths, bev.strides, strict=True)):
            self.features[f"B{k}"] = FeatureInfo(out, stride, stage="high")
            self.activations[f"B{k}"] = last_layer(self.blocks[k])
        self.features["high"] = FeatureInfo(self.merge.out_channels, stage="high")
        self.activations["high"] = self.merge.relu

    def forward(self, low: Tensor) -> dict[str, Tensor]:
        """F_low (B, C, H, W) to the block outputs `B0`..`Bn` and F_high (B, up_channels * blocks, H, W)."""
        stages: list[Tensor] = []
        x = low
        for block in self.blocks:
            x = block(x)
            stages.append(x)
        high = self.merge(stages, (low.shape[-2], low.shape[-1]))
        return {f"B{k}": stage for k, stage in enumerate(stages)} | {"high": high}
