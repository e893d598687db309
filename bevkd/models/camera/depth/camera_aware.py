"""BEVDepth's camera-aware depth net (arXiv 2206.10092, section 3.2): what a pixel tells of depth is up to the lens."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bevkd.config.schema import ModelConfig, NormConfig
from bevkd.data.batch import Cameras
from bevkd.models.camera.depth.base import DepthNet
from bevkd.models.layers import batch_norm_rows, conv_bn_relu, full_precision
from bevkd.registry import register

GEOMETRY = 18  # numbers that say what a camera is


def camera_numbers(cameras: Cameras, bev_aug: Tensor) -> Tensor:
    """Each camera as a row (B * N, 18): two rows of the augmented intrinsics, three of augmented ego from camera.

    In full precision: bfloat16 would round a focal length of 1,260 pixels to a multiple of 8.
    """
    with full_precision(bev_aug):
        pixels = (cameras.image_aug @ cameras.intrinsics)[..., :2, :].flatten(2)
        to_ego = (bev_aug[:, None] @ cameras.ego_from_camera)[..., :3, :].flatten(2)
        return torch.cat([pixels, to_ego], dim=2).flatten(0, 1).float()


class Gate(nn.Module):
    """Squeeze-and-excitation whose gates come from the camera's numbers: channels of a map times values in (0, 1)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        hidden = nn.Linear(GEOMETRY, width)
        self.net = nn.Sequential(hidden, nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))

    def forward(self, maps: Tensor, camera: Tensor) -> Tensor:
        """Maps (M, C, h, w) and cameras (M, 18) to maps."""
        return maps * torch.sigmoid(self.net(camera))[:, :, None, None]


class Residual(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    def __init__(self, width: int, norm: NormConfig) -> None:
        super().__init__()
        last = nn.BatchNorm2d(width, eps=norm.eps, momentum=norm.momentum)
        self.net = nn.Sequential(
            conv_bn_relu(width, width, norm), nn.Conv2d(width, width, 3, padding=1, bias=False), last
        )

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (M, C, h, w) to the same."""
        return torch.relu(maps + self.net(maps))


@register("depth_net", "camera_aware")
class CameraAwareDepthNet(DepthNet):
    """A shared 3x3 convolution; gates of the camera on depth and on context; three residual blocks for depth.

    BEVDepth's own has atrous pooling and a deformable convolution after these blocks; they are left out here.
    """

    def __init__(self, in_channels: int, bins: int, config: ModelConfig) -> None:
        super().__init__(in_channels, bins, config)
        width, norm = config.camera.neck_channels, config.norm
        self.reduce = conv_bn_relu(in_channels, width, norm)
        self.norm = nn.BatchNorm1d(GEOMETRY)
        self.context_gate = Gate(width)
        self.context = nn.Conv2d(width, config.camera.out_channels, 1)
        self.bins = bins
        if bins:
            self.depth_gate = Gate(width)
            self.blocks = nn.Sequential(*(Residual(width, norm) for _ in range(3)))
            self.depth = nn.Conv2d(width, bins, 1)

    def forward(self, features: Tensor, cameras: Cameras, bev_aug: Tensor) -> Tensor:
        """See `DepthNet.forward`."""
        maps = self.reduce(features)
        with full_precision(maps):
            camera = batch_norm_rows(self.norm, camera_numbers(cameras, bev_aug))
        context = self.context(self.context_gate(maps, camera))
        if not self.bins:
            return context
        depth = self.depth(self.blocks(self.depth_gate(maps, camera)))
        return torch.cat([depth, context.to(depth.dtype)], dim=1)
