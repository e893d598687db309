"""Image neck `lss_fpn`: the feature pyramid of BEVFusion's public code (arXiv 2205.13542; SimDistill spec, 2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from bevkd.config.schema import NormConfig
from bevkd.errors import ConfigError
from bevkd.models.camera.neck.base import ImageNeck
from bevkd.models.layers import conv_bn_relu
from bevkd.registry import register


@register("image_neck", "lss_fpn")
class LSSFPN(ImageNeck):
    """From the coarsest level to the finest, what came before is enlarged (bilinearly) and stands beside the next
    level; both go through a 1x1 and a 3x3 convolution with norm and ReLU. The map of the finest level is read.

    Raises:
        ConfigError: one level only, or the finest has another stride than `camera.stride`.
    """

    def __init__(
        self, channels: tuple[int, ...], strides: tuple[int, ...], stride: int, width: int, norm: NormConfig
    ) -> None:
        super().__init__(channels, strides, stride, width, norm)
        if len(channels) < 2 or strides[0] != stride:
            raise ConfigError(
                f"camera.stride {stride}: neck 'lss_fpn' ends at the finest of several levels of the backbone, of"
                f" stride {strides[0]} (camera.backbone.options.out_features says which there are)"
            )
        coarser = (*(width for _ in channels[:-2]), channels[-1])
        self.joins = nn.ModuleList(
            nn.Sequential(conv_bn_relu(c_in + before, width, norm, kernel=1), conv_bn_relu(width, width, norm))
            for c_in, before in zip(channels[:-1], coarser, strict=True)
        )
        self.out_channels = width

    def forward(self, levels: list[Tensor], size: tuple[int, int]) -> Tensor:
        """Levels to (M, neck_channels, h, w), non-negative."""
        *finer, joined = levels
        for level, join in zip(reversed(finer), reversed(self.joins), strict=True):
            enlarged = interpolate(joined, size=level.shape[-2:], mode="bilinear", align_corners=False)
            joined = join(torch.cat([level, enlarged], dim=1))
        return joined
