"""BEV encoder: residual stages and their neck, as BEVDet (arXiv 2112.11790; DistillBEV spec, 3.1.7) and as the public
code of BEVFusion (arXiv 2205.13542; SimDistill spec, 2) have them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from bevkd.config.schema import ModelConfig
from bevkd.models.bev.base import BEVEncoder, Step, block_strides, chained
from bevkd.models.features import FeatureInfo
from bevkd.models.layers import conv_bn_relu, residual_blocks
from bevkd.registry import register


@register("bev_encoder", "residual")
class ResidualEncoder(BEVEncoder):
    """Residual stages `B0`..`Bn`; the last one, enlarged, beside the first; two 3x3 convolutions with norm and ReLU;
    enlarged to the size of the input; 3x3 convolution with norm and ReLU, 1x1 convolution: F_high, signed unless
    `bev.final_norm`.

    At the published size, of F_low (B, 64 or 128, 128, 128): B0 (128, 64, 64), B1 (256, 32, 32), B2 (512, 16, 16),
    F_high (256, 128, 128). Maps are enlarged bilinearly.

    Design `bevfusion`: the first of the neck's convolutions is 1x1, nothing follows the last 3x3 one with its norm and
    ReLU, so that F_high is non-negative, and shortcuts that change the size are 1x1 with a norm. At the published size,
    with strides (2, 4, 4), of F_low (B, 256, 180, 180): B0 (128, 90, 90), B1 (256, 45, 45), B2 (512, 45, 45),
    F_high (256, 180, 180).

    Raises:
        ConfigError: unequal lengths, or a stride that the one before does not divide.
    """

    def __init__(self, config: ModelConfig, in_channels: int) -> None:
        super().__init__(config, in_channels)
        bev, norm = config.bev, config.norm
        public = bev.design == "bevfusion"
        self.align_corners = bev.align_corners
        widths = (in_channels, *bev.widths)
        self.stages = nn.ModuleList(
            residual_blocks(c_in, c_out, depth, norm, step, pointwise=public)
            for c_in, c_out, depth, step in zip(widths, bev.widths, bev.depths, block_strides(config), strict=False)
        )
        self.join = nn.Sequential(
            conv_bn_relu(bev.widths[0] + bev.widths[-1], bev.neck_channels, norm, kernel=1 if public else 3),
            conv_bn_relu(bev.neck_channels, bev.neck_channels, norm),
        )
        last_conv = conv_bn_relu(bev.neck_channels, bev.out_channels, norm)
        pointwise = [] if public else [nn.Conv2d(bev.out_channels, bev.out_channels, 1)]
        self.out = nn.Sequential(last_conv, *pointwise)
        for k, (width, stride) in enumerate(zip(bev.widths, bev.strides, strict=True)):
            self.features[f"B{k}"] = FeatureInfo(width, stride, stage="high")
            block: nn.Module = self.stages[k][-1]  # type: ignore[index]
            self.activations[f"B{k}"] = block.relu  # type: ignore[assignment]
        self.features["high"] = FeatureInfo(bev.out_channels, stage="high")
        self.final: nn.Module = nn.Identity()
        if public:
            self.activations["high"] = last_conv[-1]
        elif bev.final_norm:
            last = nn.BatchNorm2d(bev.out_channels, eps=norm.eps, momentum=norm.momentum)
            self.final = nn.Sequential(last, nn.ReLU(inplace=True))
            self.activations["high"] = self.final[1]

    def forward(self, low: Tensor) -> dict[str, Tensor]:
        """F_low (B, C, H, W) to the stages `B0`..`Bn` and F_high (B, out_channels, H, W)."""
        made: dict[str, Tensor] = {}
        x = low
        for k, stage in enumerate(self.stages):
            made[f"B{k}"] = x = stage(x)
        fine = made["B0"]
        joined = self.join(torch.cat([fine, self._enlarged(x, fine)], dim=1))
        high = self.final(self.out(self._enlarged(joined, low)))
        return made | {"high": high}

    def steps(self) -> list[Step]:
        """A stage after the other; the neck's convolutions at the size of the first stage, and those of the input."""
        made = chained(self.stages)
        neck = Step("neck", ((made[0].name, None), (made[-1].name, None)), self.join, like=made[0].name)
        return [*made, neck, Step("high", (("neck", None),), nn.Sequential(self.out, self.final), like="low")]

    def _enlarged(self, maps: Tensor, like: Tensor) -> Tensor:
        """Maps at the size of others."""
        return interpolate(maps, size=like.shape[-2:], mode="bilinear", align_corners=self.align_corners)
