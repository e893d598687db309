"""BEV encoder: chained convolution blocks, each brought back to the resolution of the input, concatenated."""

from __future__ import annotations

from torch import Tensor, nn

from bevkd.config.schema import ModelConfig
from bevkd.errors import ConfigError
from bevkd.models.bev.base import BEVEncoder, Step, block_strides, chained
from bevkd.models.features import FeatureInfo
from bevkd.models.layers import MergedLevels, conv_bn_relu, last_layer, up_conv
from bevkd.registry import register


@register("bev_encoder", "second_fpn")
class SecondFPN(BEVEncoder):
    """SECOND's backbone with its FPN.

    `bev.strides` are relative to the input map and cumulative: (1, 2) is a block at full and one at half resolution,
    (2, 4) starts by halving. Block i has one (strided) and `bev.depths[i]` further 3x3 convolutions. The output has
    `up_channels` channels per block and the cells of the grid, of which the input has `bev.finer` times as many along
    each axis.

    Raises:
        ConfigError: unequal lengths, or a stride that the one before, or `finer`, does not divide.
    """

    def __init__(self, config: ModelConfig, in_channels: int) -> None:
        super().__init__(config, in_channels)
        bev, norm = config.bev, config.norm
        steps = block_strides(config)
        blocks: list[nn.Module] = []
        ups: list[nn.Module] = []
        width = in_channels
        for out, depth, stride, step in zip(bev.widths, bev.depths, bev.strides, steps, strict=True):
            layers = [conv_bn_relu(width, out, norm, stride=step)]
            layers += [conv_bn_relu(out, out, norm) for _ in range(depth)]
            blocks.append(nn.Sequential(*layers))
            ups.append(_to_grid(out, bev.up_channels, stride, bev.finer))
            width = out
        self.blocks = nn.ModuleList(blocks)
        self.finer = bev.finer
        self.merge = MergedLevels(ups, bev.up_channels * len(bev.widths), norm)
        for k, (out, stride) in enumerate(zip(bev.widths, bev.strides, strict=True)):
            self.features[f"B{k}"] = FeatureInfo(out, stride / bev.finer, stage="high")
            self.activations[f"B{k}"] = last_layer(self.blocks[k])
        self.features["high"] = FeatureInfo(self.merge.out_channels, stage="high")
        self.activations["high"] = self.merge.relu

    def forward(self, low: Tensor) -> dict[str, Tensor]:
        """F_low (B, C, H, W) to the block outputs `B0`..`Bn` and F_high (B, up_channels * blocks, H, W) / finer."""
        stages: list[Tensor] = []
        x = low
        for block in self.blocks:
            x = block(x)
            stages.append(x)
        high = self.merge(stages, (low.shape[-2] // self.finer, low.shape[-1] // self.finer))
        return {f"B{k}": stage for k, stage in enumerate(stages)} | {"high": high}

    def steps(self) -> list[Step]:
        """A block after the other; a convolution behind each, whose maps together get norm and ReLU."""
        neck = tuple((f"B{k}", convolution) for k, convolution in enumerate(self.merge.convolutions))
        last = Step("high", (("neck", None),), nn.Sequential(self.merge.norm, self.merge.relu))
        return [*chained(self.blocks), Step("neck", neck, None), last]


def _to_grid(c_in: int, c_out: int, stride: int, finer: int) -> nn.Module:
    """From cells of `stride` cells of the input to such of `finer`, by a convolution without overlap.

    Raises:
        ConfigError: neither is a multiple of the other.
    """
    if stride % finer == 0:
        return up_conv(c_in, c_out, stride // finer)
    if finer % stride:
        raise ConfigError(f"bev.strides: {stride} and bev.finer {finer}: neither is a multiple of the other")
    return nn.Conv2d(c_in, c_out, finer // stride, stride=finer // stride, bias=False)
