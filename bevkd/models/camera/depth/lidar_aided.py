"""BEVFusion's depth net that sees LiDAR depths (arXiv 2205.13542, public code; CRKD spec, 3.2), for fusion."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bevkd.config.schema import ModelConfig
from bevkd.data.batch import Cameras
from bevkd.errors import ConfigError
from bevkd.models.camera.depth.base import DepthNet
from bevkd.models.layers import conv_bn_relu
from bevkd.registry import register

_FIRST = 4  # stride of the first convolution that has one; the next one has what is left


@register("depth_net", "lidar_aided")
class LidarAidedDepthNet(DepthNet):
    """Depths (1 channel, m) through 1x1, 5x5 and 5x5 convolutions to the stride of the image features; both together
    through two 3x3 convolutions and a 1x1 one.

    Raises:
        ConfigError: the image features have a stride that is no multiple of 4.
    """

    def __init__(self, in_channels: int, bins: int, config: ModelConfig) -> None:
        super().__init__(in_channels, bins, config)
        camera, norm = config.camera, config.norm
        if camera.stride % _FIRST:
            raise ConfigError(f"camera.stride {camera.stride}: depth net 'lidar_aided' wants a multiple of {_FIRST}")
        first, second, third = camera.depth_net.channels
        width = camera.depth_net.hidden_channels or in_channels
        self.depths = nn.Sequential(
            conv_bn_relu(1, first, norm, 1, 1),
            conv_bn_relu(first, second, norm, 5, _FIRST),
            conv_bn_relu(second, third, norm, 5, camera.stride // _FIRST),
        )
        self.mix = nn.Sequential(
            conv_bn_relu(third + in_channels, width, norm),
            conv_bn_relu(width, width, norm),
            nn.Conv2d(width, bins + camera.out_channels, 1),
        )

    def forward(self, features: Tensor, cameras: Cameras, bev_aug: Tensor) -> Tensor:
        """See `DepthNet.forward`; `Cameras.lidar` holds the depths.

        Raises:
            ValueError: it does not.
        """
        if cameras.lidar is None:
            raise ValueError("the batch has no LiDAR images")
        depths = self.depths(cameras.lidar.flatten(0, 1)[:, None])
        return self.mix(torch.cat([depths, features], dim=1))
