"""BEVDet's camera encoder: image backbone, neck, depth net, view transform."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from bevkd.config.schema import ModelConfig
from bevkd.data.batch import Batch
from bevkd.errors import ConfigError
from bevkd.models.camera.trunk import ImageTrunk
from bevkd.models.features import FeatureInfo
from bevkd.models.losses import depth_loss
from bevkd.models.stage import SensorFeatures
from bevkd.registry import lookup, register


@register("camera_encoder", "lss")
class CameraEncoder(ImageTrunk):
    """Images to a BEV map. Backbone, depth net and view transform are named in the config; the defaults are BEVDet's.

    Raises:
        ConfigError: image size, strides or depth range that do not fit, or depth supervision without depth.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        camera = config.camera
        self.view_transform = lookup("view_transform", camera.view.kind)(config)
        bins = self.view_transform.bins
        if camera.depth_weight > 0 and not bins:
            raise ConfigError(f"camera.depth_weight: view transform {camera.view.kind!r} predicts no depth")
        self.depth_and_context = lookup("depth_net", camera.depth_net.kind)(self.neck.out_channels, bins, config)
        self.features = {"camera": FeatureInfo(camera.out_channels)}
        if bins:
            self.features["depth"] = FeatureInfo(bins, camera.stride, "depth")
        self.features |= self.levels_info()

    def forward(self, batch: Batch) -> SensorFeatures:
        """BEV map `camera` (B, out_channels, H, W), signed, `depth` logits (B, N, D, h, w) if any, and the backbone's
        levels `image0`..
        """
        if batch.cameras is None:
            raise ValueError("the batch has no images")
        levels, features = self.image_features(batch.cameras)
        mixed = self.depth_and_context(features, batch.cameras, batch.bev_aug)  # (B * N, D + C, h, w)
        bev, logits = self.view_transform(mixed, batch.cameras, batch.bev_aug)
        return SensorFeatures({"camera": bev}, levels if logits is None else {"depth": logits} | levels)

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
