"""BEVDet's camera encoder: image backbone, neck, depth net, view transform."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bevkd.config.schema import ModelConfig
from bevkd.data.batch import Batch, Cameras
from bevkd.errors import ConfigError
from bevkd.models.camera.neck import Neck
from bevkd.models.features import FeatureInfo
from bevkd.models.losses import depth_loss
from bevkd.models.stage import SensorEncoder, SensorFeatures
from bevkd.registry import lookup, register

# Mean and deviation (m) of the projected LiDAR depths that MonoDistill's teacher reads (UniDistill spec, 8.4).
LIDAR_MEAN, LIDAR_STD = 8.765, 11.275


@register("camera_encoder", "lss")
class CameraEncoder(SensorEncoder):
    """Images to a BEV map. Backbone, depth net and view transform are named in the config; the defaults are BEVDet's.

    Raises:
        ConfigError: image size, strides or depth range that do not fit, or depth supervision without depth.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        camera = config.camera
        if camera.image_size[0] % camera.stride or camera.image_size[1] % camera.stride:
            raise ConfigError(f"camera.image_size {camera.image_size} is not a multiple of the stride {camera.stride}")
        self.backbone = lookup("image_backbone", camera.backbone.kind)(camera.backbone)
        levels = (self.backbone.channels, self.backbone.strides)
        self.neck = Neck(*levels, camera.stride, camera.neck_channels, config.norm)
        self.view_transform = lookup("view_transform", camera.view.kind)(config)
        bins = self.view_transform.bins
        if camera.depth_weight > 0 and not bins:
            raise ConfigError(f"camera.depth_weight: view transform {camera.view.kind!r} predicts no depth")
        self.depth_and_context = lookup("depth_net", camera.depth_net.kind)(self.neck.out_channels, bins, config)
        self.features = {"camera": FeatureInfo(camera.out_channels)}
        if bins:
            self.features["depth"] = FeatureInfo(bins, camera.stride, "depth")
        for k, (width, stride) in enumerate(zip(*levels, strict=True)):
            self.features[f"image{k}"] = FeatureInfo(width, stride, "image")

    def forward(self, batch: Batch) -> SensorFeatures:
        """BEV map `camera` (B, out_channels, H, W), signed, `depth` logits (B, N, D, h, w) if any, and the backbone's
        levels `image0`..
        """
        if batch.cameras is None:
            raise ValueError("the batch has no images")
        images = self._images(batch.cameras)
        b, n, _, height, width = images.shape
        if (height, width) != tuple(self.config.camera.image_size):
            raise ValueError(f"images of {height} x {width}, but camera.image_size is {self.config.camera.image_size}")
        size = (height // self.config.camera.stride, width // self.config.camera.stride)
        levels = self.backbone(images.flatten(0, 1).contiguous(memory_format=torch.channels_last))
        features = self.neck(levels, size)
        mixed = self.depth_and_context(features, batch.cameras, batch.bev_aug)  # (B * N, D + C, h, w)
        bev, logits = self.view_transform(mixed, batch.cameras, batch.bev_aug)
        others = {f"image{k}": level.unflatten(0, (b, n)) for k, level in enumerate(levels)}
        return SensorFeatures({"camera": bev}, others if logits is None else {"depth": logits} | others)

    def loss_weights(self) -> dict[str, float]:
        """Of `depth`, where it is supervised."""
        weight = self.config.camera.depth_weight
        return {"depth": weight} if weight > 0 else {}

    def losses(self, features: dict[str, Any], batch: Batch) -> dict[str, Tensor]:
        """`depth`, see `depth_loss`, on all frames: it needs no annotation.

        Raises:
            ValueError: a batch without depth targets.
        """
        view = self.config.camera.view
        if not self.loss_weights():
            return {}
        if batch.cameras is None or batch.cameras.depth is None:
            raise ValueError("camera.depth_weight needs a batch with depth targets")
        return {"depth": depth_loss(features["depth"], batch.cameras.depth, view.depth_min, view.depth_step)}

    def _images(self, cameras: Cameras) -> Tensor:
        """What the backbone sees (B, N, 3, H, W); LiDAR depths three times over, so that the backbone is the same."""
        if self.config.camera.input == "rgb":
            return cameras.images
        if cameras.lidar is None:
            raise ValueError("the batch has no LiDAR images")
        return ((cameras.lidar - LIDAR_MEAN) / LIDAR_STD)[:, :, None].expand(-1, -1, 3, -1, -1)
