"""Image neck `concat`: every backbone level to one stride, concatenated."""

from __future__ import annotations

from torch import Tensor, nn

from bevkd.config.schema import NormConfig
from bevkd.errors import ConfigError
from bevkd.models.camera.neck.base import ImageNeck
from bevkd.models.layers import MergedLevels, up_conv
from bevkd.registry import register


@register("image_neck", "concat")
class ConcatNeck(ImageNeck):
    """Finer levels by a convolution with kernel = stride, coarser ones by a transposed one; BN, ReLU, concatenate.

    Raises:
        ConfigError: a level's stride neither divides nor is divided by the target stride.
    """

    def __init__(
        self, channels: tuple[int, ...], strides: tuple[int, ...], stride: int, width: int, norm: NormConfig
    ) -> None:
        super().__init__(channels, strides, stride, width, norm)
        convolutions: list[nn.Module] = []
        for c_in, level in zip(channels, strides, strict=True):
            if stride % level and level % stride:
                raise ConfigError(f"camera.stride {stride} does not fit a backbone level of stride {level}")
            if level < stride:
                k = stride // level
                convolutions.append(nn.Conv2d(c_in, width, k, stride=k, bias=False))
            else:
                convolutions.append(up_conv(c_in, width, level // stride))
        self.levels = MergedLevels(convolutions, width * len(convolutions), norm)
        self.out_channels = self.levels.out_channels

    def forward(self, levels: list[Tensor], size: tuple[int, int]) -> Tensor:
        """Levels to (M, out_channels, h, w)."""
        return self.levels(levels, size)
