"""SimDistill's camera encoder (arXiv 2303.16818; spec, 3): beside the camera branch one that simulates a LiDAR's map.

    X    = neck(backbone(images))
    F_C  = lift(X)                               camera
    F_SL = GCM_bev(lift'(GCM_image(X)))          simulated

Both lifts have weights of their own, as in the paper's figure 2; the released code calls one for both. The GCM, the
geometry compensation module, moves features to where their object is (`bevkd.models.camera.compensation`).
"""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor, nn

from bevkd.config.schema import ModelConfig
from bevkd.data.batch import Batch, Cameras
from bevkd.models.camera.lss import CameraEncoder, cameras_of
from bevkd.models.features import FeatureInfo
from bevkd.models.stage import SensorFeatures
from bevkd.registry import lookup, register


@register("camera_encoder", "lss_simulated")
class TwoBranchCameraEncoder(CameraEncoder):
    """One image backbone and neck, two branches to BEV maps, which the fuser takes in the order [F_SL, F_C].

    It has no way to LiDAR points: what it takes of a batch are images and their geometry, unless `lidar_depth` says
    otherwise. Both view transforms have one geometry, whose plan is made once per batch.

    Raises:
        ConfigError: as `CameraEncoder`.
    """

    supervised: ClassVar[str] = "depth.simulated"

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        camera, width = config.camera, self.neck.out_channels
        if not camera.shared_view:
            self.simulated_view_transform = lookup("view_transform", camera.view.kind)(config)
            self.simulated_view_transform.share_geometry(self.view_transform)
            net = lookup("depth_net", camera.depth_net.kind)
            self.simulated_depth_and_context = net(width, self.view_transform.bins, config)
        self.gcm_image = _compensation(camera.gcm_image, width)
        self.gcm_bev = _compensation(camera.gcm_bev, camera.out_channels)
        maps = ("simulated", "camera", "simulated.raw")
        depths = {"depth.simulated": self.features["depth"]} if "depth" in self.features else {}
        self.features = {name: FeatureInfo(camera.out_channels) for name in maps} | self.features | depths

    @property
    def fused(self) -> tuple[str, ...]:
        """Both branches."""
        branches: tuple[str, ...] = self.config.camera.branches
        return branches

    def forward(self, batch: Batch) -> SensorFeatures:
        """BEV maps (B, out_channels, H, W) `simulated` and `camera`, and the other features: `simulated.raw`, the
        simulated branch before the compensation in BEV space, `depth` and `depth.simulated` logits (B, N, D, h, w), if
        any, and the backbone's levels `image0`..
        """
        cameras = cameras_of(batch)
        return self.lift_both(cameras if self.config.camera.lidar_depth else _images_alone(cameras), batch.bev_aug)

    def lift_both(self, cameras: Cameras, bev_aug: Tensor) -> SensorFeatures:
        """See `forward`.

        Args:
            cameras: images and geometry.
            bev_aug: (B, 4, 4) augmented ego from ego.
        """
        others: dict[str, Any]
        others, features = self.image_features(cameras)
        compensated = self.gcm_image(features)  # (B * N, C, h, w)
        shared = self.config.camera.shared_view
        mixed = self.depth_and_context(compensated if shared else features, cameras, bev_aug)
        camera, depth = self.view_transform(mixed, cameras, bev_aug)
        raw, simulated_depth = camera, depth
        if not shared:
            mixed = self.simulated_depth_and_context(compensated, cameras, bev_aug)
            raw, simulated_depth = self.simulated_view_transform(mixed, cameras, bev_aug)
        others["simulated.raw"] = raw
        if depth is not None:
            others |= {"depth": depth, "depth.simulated": simulated_depth}
        return SensorFeatures({"simulated": self.gcm_bev(raw), "camera": camera}, others)


def _compensation(settings: Any, channels: int) -> nn.Module:
    """The module that is named; none: what goes in comes out."""
    if settings is None:
        return nn.Identity()
    module: nn.Module = lookup("compensation", settings.kind)(settings, channels)
    return module


def _images_alone(cameras: Cameras) -> Cameras:
    """Images and their geometry, without what LiDAR points say of them."""
    return Cameras(cameras.images, cameras.intrinsics, cameras.ego_from_camera, cameras.image_aug)
