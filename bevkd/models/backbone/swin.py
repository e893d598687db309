"""Swin Transformer of the transformers library: Swin-T with its last three stages by default."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from bevkd.models.backbone.base import ImageBackbone, build_transformers
from bevkd.models.backbone.swin_settings import SwinSettings
from bevkd.registry import register


@register("image_backbone", "swin")
class Swin(ImageBackbone):
    """The last three stages of a Swin Transformer (strides 8, 16, 32), layer-normalised.

    Raises:
        ConfigError: a frozen stem without weights; see `build_transformers`.
    """

    def __init__(self, settings: SwinSettings) -> None:
        from transformers import SwinBackbone, SwinConfig

        super().__init__(settings.frozen_stem)
        settings.check()
        options: dict[str, Any] = {"drop_path_rate": 0.2} | dict(settings.options)
        count = len(options.get("depths", SwinConfig().depths))
        stages = options.setdefault("out_features", [f"stage{i + 1}" for i in range(max(0, count - 3), count)])
        self.net = build_transformers(SwinBackbone, SwinConfig, options, settings.weights)
        # The classifier's last norm feeds nothing here; unused parameters would stall distributed training.
        self.net.swin.layernorm = nn.Identity()
        if settings.random:
            # With the usual zero bias a black patch (image padding) is an exact zero, through which every layer norm
            # multiplies gradients by 1 / sqrt(eps) until they overflow.
            nn.init.trunc_normal_(self.net.swin.embeddings.patch_embeddings.projection.bias, std=0.02)
        self.channels = tuple(self.net.channels)
        patch = int(self.net.config.patch_size)
        self.strides = tuple(patch << (int(name.removeprefix("stage")) - 1) for name in stages)
        self.freeze()

    def stem(self) -> nn.Module:
        """The patch embedding."""
        return self.net.swin.embeddings

    def forward(self, images: Tensor) -> list[Tensor]:
        """Images (M, 3, H, W) to one map per stage."""
        return list(self.net(images).feature_maps)
