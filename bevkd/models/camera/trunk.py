"""What every camera encoder begins with: image backbone and neck, which starting weights are learnt for."""

from __future__ import annotations

import torch
from torch import Tensor

from bevkd.config.schema import ModelConfig
from bevkd.data.batch import Cameras
from bevkd.errors import ConfigError
from bevkd.models.features import FeatureInfo
from bevkd.models.stage import SensorEncoder
from bevkd.registry import lookup

# Mean and deviation (m) of the projected LiDAR depths that MonoDistill's teacher reads (UniDistill spec, 8.4).
LIDAR_MEAN, LIDAR_STD = 8.765, 11.275


class ImageTrunk(SensorEncoder):
    """Images to features at the stride `camera.stride`.

    Raises:
        ConfigError: image size or strides that do not fit.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        camera = config.camera
        if camera.image_size[0] % camera.stride or camera.image_size[1] % camera.stride:
            raise ConfigError(f"camera.image_size {camera.image_size} is not a multiple of the stride {camera.stride}")
        self.backbone = lookup("image_backbone", camera.backbone.kind)(camera.backbone)
        levels = (self.backbone.channels, self.backbone.strides)
        neck = lookup("image_neck", camera.neck)
        self.neck = neck(*levels, camera.stride, camera.neck_channels, config.norm)

    def levels_info(self) -> dict[str, FeatureInfo]:
        """The levels of the backbone as features, `image0`.. from fine to coarse."""
        levels = zip(self.backbone.channels, self.backbone.strides, strict=True)
        return {f"image{k}": FeatureInfo(width, stride, "image") for k, (width, stride) in enumerate(levels)}

    def image_features(self, cameras: Cameras) -> tuple[dict[str, Tensor], Tensor]:
        """Levels of the backbone (B, N, C, h, w) by name, and what the neck makes of them (B * N, C, h, w)."""
        images, camera = self._images(cameras), self.config.camera
        b, n, _, height, width = images.shape
        if (height, width) != tuple(camera.image_size):
            raise ValueError(f"images of {height} x {width}, but camera.image_size is {camera.image_size}")
        size = (height // camera.stride, width // camera.stride)
        levels = self.backbone(images.flatten(0, 1).contiguous(memory_format=torch.channels_last))
        features = self.neck(levels, size)
        return {f"image{k}": level.unflatten(0, (b, n)) for k, level in enumerate(levels)}, features

    def _images(self, cameras: Cameras) -> Tensor:
        """What the backbone sees (B, N, 3, H, W); LiDAR depths three times over, so that the backbone is the same."""
        if self.config.camera.input == "rgb":
            return cameras.images
        if cameras.lidar is None:
            raise ValueError("the batch has no LiDAR images")
        return ((cameras.lidar - LIDAR_MEAN) / LIDAR_STD)[:, :, None].expand(-1, -1, 3, -1, -1)
