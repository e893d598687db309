"""The depth net of SimDistill's student: that of its teacher without the image of LiDAR depths (spec, 3)."""

from __future__ import annotations

from torch import Tensor, nn

from bevkd.config.schema import ModelConfig
from bevkd.data.batch import Cameras
from bevkd.models.camera.depth.base import DepthNet
from bevkd.models.layers import conv_bn_relu
from bevkd.registry import register


@register("depth_net", "convs")
class ConvsDepthNet(DepthNet):
    """Two 3x3 convolutions with norm and ReLU, and a 1x1 one."""

    def __init__(self, in_channels: int, bins: int, config: ModelConfig) -> None:
        super().__init__(in_channels, bins, config)
        camera, norm = config.camera, config.norm
        width = camera.depth_net.hidden_channels or in_channels
        self.mix = nn.Sequential(
            conv_bn_relu(in_channels, width, norm),
            conv_bn_relu(width, width, norm),
            nn.Conv2d(width, bins + camera.out_channels, 1),
        )

    def forward(self, features: Tensor, cameras: Cameras, bev_aug: Tensor) -> Tensor:
        """See `DepthNet.forward`; geometry plays no part."""
        out: Tensor = self.mix(features)
        return out
