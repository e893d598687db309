"""The plain depth net: one 1x1 convolution, as in lift-splat-shoot and BEVDet."""

from __future__ import annotations

from torch import Tensor, nn

from bevkd.config.schema import ModelConfig
from bevkd.data.batch import Cameras
from bevkd.registry import register


@register("depth_net", "conv")
class ConvDepthNet(nn.Conv2d):
    """See `DepthNet`. Is a convolution, and does not hold one: so its weights are called as they always were."""

    def __init__(self, in_channels: int, bins: int, config: ModelConfig) -> None:
        super().__init__(in_channels, bins + config.camera.out_channels, 1)

    def forward(self, features: Tensor, cameras: Cameras, bev_aug: Tensor) -> Tensor:  # type: ignore[override]
        """See `DepthNet.forward`; geometry plays no part."""
        return super().forward(features)
