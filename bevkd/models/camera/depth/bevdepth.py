"""The camera-aware depth net of DistillBEV's BEVDepth (arXiv 2206.10092, section 3.2; DistillBEV spec, 3.1.4)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bevkd.config.schema import ModelConfig
from bevkd.data.batch import Cameras
from bevkd.models.camera.depth.base import DepthNet
from bevkd.models.layers import batch_norm_rows, full_precision, residual_blocks
from bevkd.models.ops.deform import DeformConv
from bevkd.registry import register

NUMBERS = 33  # that say what a camera is


def camera_row(cameras: Cameras, bev_aug: Tensor) -> Tensor:
    """Each camera as a row (B * N, 33): 9 intrinsics of the source image; image augmentation, 9 of its linear part and
    3 of its shift (pixels); augmented ego from camera, 9 of its linear part and 3 of its shift (m).

    In full precision: bfloat16 would round a focal length of 1,260 pixels to a multiple of 8.
    """
    with full_precision(bev_aug):
        aug, to_ego = cameras.image_aug, bev_aug[:, None] @ cameras.ego_from_camera
        shift = torch.zeros_like(aug[..., 0])
        shift[..., :2] = aug[..., :2, 2]
        linear = torch.zeros_like(aug)
        linear[..., :2, :2] = aug[..., :2, :2]
        linear[..., 2, 2] = 1.0
        parts = (cameras.intrinsics, linear, shift, to_ego[..., :3, :3], to_ego[..., :3, 3])
        return torch.cat([part.flatten(2).float() for part in parts], dim=2).flatten(0, 1)


@register("depth_net", "bevdepth")
class BEVDepthNet(DepthNet):
    """Depths: 1x1 convolution, times a gate of the camera (batch norm, linear layer, sigmoid), residual blocks, a
    (deformable) 3x3 convolution with batch norm, 1x1 convolution. Context: 1x1 convolution, without a gate.
    """

    def __init__(self, in_channels: int, bins: int, config: ModelConfig) -> None:
        super().__init__(in_channels, bins, config)
        own, norm = config.camera.depth_net, config.norm
        self.bins = bins
        self.context = nn.Conv2d(in_channels, config.camera.out_channels, 1)
        if bins:
            self.reduce = nn.Conv2d(in_channels, own.channels, 1)
            self.norm = nn.BatchNorm1d(NUMBERS)
            self.gate = nn.Linear(NUMBERS, own.channels)
            self.blocks = residual_blocks(own.channels, own.channels, own.blocks, norm)
            last = DeformConv if own.deformable else _plain_conv
            self.last = nn.Sequential(
                last(own.channels, own.channels), nn.BatchNorm2d(own.channels, eps=norm.eps, momentum=norm.momentum)
            )
            self.depth = nn.Conv2d(own.channels, bins, 1)

    def forward(self, features: Tensor, cameras: Cameras, bev_aug: Tensor) -> Tensor:
        """See `DepthNet.forward`."""
        context = self.context(features)
        if not self.bins:
            return context
        with full_precision(features):
            camera = batch_norm_rows(self.norm, camera_row(cameras, bev_aug))
            gate = torch.sigmoid(self.gate(camera))[:, :, None, None]
        depth = self.depth(self.last(self.blocks(self.reduce(features) * gate)))
        return torch.cat([depth, context.to(depth.dtype)], dim=1)


def _plain_conv(c_in: int, c_out: int) -> nn.Conv2d:
    return nn.Conv2d(c_in, c_out, 3, padding=1)
