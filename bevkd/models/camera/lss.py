"""BEVDet's camera encoder: image backbone, neck, depth net, view transform."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from bevkd.config.schema import ModelConfig
from bevkd.data.batch import Batch, Cameras
from bevkd.errors import ConfigError
from bevkd.models.camera.trunk import ImageTrunk
from bevkd.models.features import FeatureInfo
from bevkd.models.losses import depth_bin_loss, depth_loss
from bevkd.models.stage import SensorFeatures
from bevkd.registry import lookup, register


def cameras_of(batch: Batch) -> Cameras:
    """The cameras of a batch.

    Raises:
        ValueError: it has none.
    """
    if batch.cameras is None:
        raise ValueError("the batch has no images")
    return batch.cameras


@register("camera_encoder", "lss")
class CameraEncoder(ImageTrunk):
    """Images to a BEV map. Backbone, depth net and view transform are named in the config; the defaults are BEVDet's.

    Attributes:
        supervised: the feature that LiDAR points teach, where they do.

    Raises:
        ConfigError: image size, strides or depth range that do not fit, or depth supervision without depth.
    """

    supervised: ClassVar[str] = "depth"

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
        bev, others = self.lift(cameras_of(batch), batch.bev_aug)
        return SensorFeatures({"camera": bev}, others)

    def lift(self, cameras: Cameras, bev_aug: Tensor) -> tuple[Tensor, dict[str, Any]]:
        """Images of one moment to their BEV map (B, out_channels, H, W), and to the other features by name.

        Args:
            cameras: images and geometry.
            bev_aug: (B, 4, 4) augmented ego from ego.
        """
        levels, features = self.image_features(cameras)
        mixed = self.depth_and_context(features, cameras, bev_aug)  # (B * N, D + C, h, w)
        bev, logits = self.view_transform(mixed, cameras, bev_aug)
        return bev, levels if logits is None else {"depth": logits} | levels

    def loss_weights(self) -> dict[str, float]:
        """Of `depth`, where it is supervised."""
        weight = self.config.camera.depth_weight
        return {"depth": weight} if weight > 0 else {}

    def losses(self, features: dict[str, Any], batch: Batch) -> dict[str, Tensor]:
        """`depth`, see `depth_loss` and `depth_bin_loss`, on all frames: it needs no annotation.

        Raises:
            ValueError: a batch without depth targets.
        """
        view = self.config.camera.view
        if not self.loss_weights():
            return {}
        if batch.cameras is None or batch.cameras.depth is None:
            raise ValueError("camera.depth_weight needs a batch with depth targets")
        loss = depth_bin_loss if self.config.camera.depth_loss == "sigmoid" else depth_loss
        return {"depth": loss(features[self.supervised], batch.cameras.depth, view.depth_min, view.depth_step)}
