"""BEVDet4D's camera encoder (arXiv 2203.17054; DistillBEV spec, 3.1.6): the maps of now and of before, side by side."""

from __future__ import annotations

import torch

from bevkd.config.schema import ModelConfig
from bevkd.data.batch import Batch, Cameras, PastCameras
from bevkd.data.past_cameras import past_of
from bevkd.errors import ConfigError
from bevkd.models.camera.lss import CameraEncoder, cameras_of
from bevkd.models.features import FeatureInfo
from bevkd.models.layers import residual_blocks
from bevkd.models.ops.warp import warp_bev
from bevkd.models.stage import SensorFeatures
from bevkd.registry import register


@register("camera_encoder", "lss_temporal")
class TemporalCameraEncoder(CameraEncoder):
    """Each set of images is lifted into the ego frame of its own moment, by the same weights; residual blocks refine
    each map; the earlier one is warped into the current ego frame and takes no gradient; both are concatenated.

    The released code lifts both sets with the current extrinsics, and its warp takes the corners of cells for their
    centres. Here each set has extrinsics of its own, and centres are centres.

    Raises:
        ConfigError: as `CameraEncoder`, or LiDAR depths beside the images, or in their place.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        if config.camera.input != "rgb" or getattr(config.camera.depth_net, "reads_depths", False):
            raise ConfigError("model.camera.kind lss_temporal reads images alone: no LiDAR depths of earlier moments")
        width = config.camera.out_channels
        self.view_transform.geometries = 2
        self.refine = residual_blocks(width, width, config.camera.fusion_blocks, config.norm)
        self.grid = config.grid.build()
        self.features["camera"] = FeatureInfo(config.camera.map_channels)

    def forward(self, batch: Batch) -> SensorFeatures:
        """BEV map `camera` (B, 2 * out_channels, H, W), the current moment first; `depth` logits and levels of the
        backbone are those of the current images.

        Raises:
            ValueError: a batch without images, or without earlier ones.
        """
        cameras, past = cameras_of(batch), past_of(batch)
        now, others = self.lift(cameras, batch.bev_aug)
        # With gradients first: under autocast, weights that were cast without them would be used without them.
        now = self.refine(now)
        with torch.no_grad():
            before, _ = self.lift(_at_their_time(past), batch.bev_aug)
            aug = batch.bev_aug.double()
            # Both maps lie in augmented ego frames: out of the augmentation, to now, and into it again.
            now_from_past = aug @ past.now_from_past.double() @ torch.linalg.inv(aug)
            before = warp_bev(self.refine(before), self.grid, now_from_past)
        return SensorFeatures({"camera": torch.cat([now, before.to(now.dtype)], dim=1)}, others)


def _at_their_time(past: PastCameras) -> Cameras:
    """Earlier cameras as if they were the current ones, in the ego frame of their own moment."""
    return Cameras(past.images, past.intrinsics, past.ego_from_camera, past.image_aug)
