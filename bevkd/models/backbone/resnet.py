"""ResNet of the transformers library: ResNet-50 by default, small ones by options."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from bevkd.models.backbone.base import ImageBackbone, build_transformers
from bevkd.models.backbone.resnet_settings import ResNetSettings
from bevkd.registry import register


@register("image_backbone", "resnet")
class ResNet(ImageBackbone):
    """All stages of a ResNet; strides 4, 8, 16, ... (first stage at 8 with `downsample_in_first_stage`).

    Raises:
        ConfigError: a frozen stem without weights; see `build_transformers`.
    """

    def __init__(self, settings: ResNetSettings) -> None:
        from transformers import ResNetBackbone, ResNetConfig

        super().__init__(settings.frozen_stem)
        settings.check()
        options: dict[str, Any] = dict(settings.options)
        depths: Any = options.get("depths") or ResNetConfig().depths
        stages = options.setdefault("out_features", [f"stage{i + 1}" for i in range(len(depths))])
        self.net = build_transformers(ResNetBackbone, ResNetConfig, options, settings.weights)
        self.channels = tuple(self.net.channels)
        first = 8 if self.net.config.downsample_in_first_stage else 4
        self.strides = tuple(first << (int(name.removeprefix("stage")) - 1) for name in stages)
        self.freeze()

    def stem(self) -> nn.Module:
        """The first convolution and its batch norm."""
        return self.net.embedder

    def forward(self, images: Tensor) -> list[Tensor]:
        """Images (M, 3, H, W) to one map per stage."""
        return list(self.net(images).feature_maps)
