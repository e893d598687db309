"""BEVDet's camera encoder: image backbone, neck, depth distribution, lift-splat."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bevkd.config.schema import CameraConfig, ModelConfig
from bevkd.data.batch import Batch, Cameras
from bevkd.errors import ConfigError
from bevkd.models.camera.neck import Neck
from bevkd.models.layers import full_precision
from bevkd.models.ops.lift_splat import SplatPlan, frustum_cells, lift_splat, plan_splat
from bevkd.models.stage import SensorEncoder, SensorFeatures
from bevkd.registry import lookup, register

# Mean and deviation (m) of the projected LiDAR depths that MonoDistill's teacher reads (UniDistill spec, 8.4).
LIDAR_MEAN, LIDAR_STD = 8.765, 11.275


def depth_bins(camera: CameraConfig) -> int:
    """Number of depth bins; bin i is the plane at `depth_min + i * depth_step` metres.

    Raises:
        ConfigError: the depth range is not a multiple of the step.
    """
    bins = round((camera.depth_max - camera.depth_min) / camera.depth_step)
    if bins < 1 or abs(bins * camera.depth_step - (camera.depth_max - camera.depth_min)) > 1e-6:
        raise ConfigError("camera: depth_max - depth_min must be a positive multiple of depth_step")
    return bins


@register("camera_encoder", "lss")
class LiftSplatEncoder(SensorEncoder):
    """Images to a BEV map: softmax over depth bins, context features, sum over each BEV column.

    Raises:
        ConfigError: image size, strides or depth range that do not fit.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        camera = config.camera
        if camera.image_size[0] % camera.stride or camera.image_size[1] % camera.stride:
            raise ConfigError(f"camera.image_size {camera.image_size} is not a multiple of the stride {camera.stride}")
        self.grid = config.grid.build()
        self.bins = depth_bins(camera)
        self.backbone = lookup("image_backbone", camera.backbone)(camera)
        levels = (self.backbone.channels, self.backbone.strides)
        self.neck = Neck(*levels, camera.stride, camera.neck_channels, config.bev)
        self.depth_and_context = nn.Conv2d(self.neck.out_channels, self.bins + camera.out_channels, 1)
        self.out_channels = camera.out_channels
        self.image_channels = tuple(self.backbone.channels)
        self._geometry: Tensor | None = None
        self._plan: SplatPlan | None = None

    def forward(self, batch: Batch) -> SensorFeatures:
        """BEV map (B, out_channels, H, W), signed, depth logits (B, N, D, h, w), and the backbone's levels."""
        if batch.cameras is None:
            raise ValueError("the batch has no images")
        images = self._images(batch.cameras)
        b, n, _, height, width = images.shape
        if (height, width) != tuple(self.config.camera.image_size):
            raise ValueError(f"images of {height} x {width}, but camera.image_size is {self.config.camera.image_size}")
        size = (height // self.config.camera.stride, width // self.config.camera.stride)
        levels = self.backbone(images.flatten(0, 1).contiguous(memory_format=torch.channels_last))
        features = self.neck(levels, size)
        mixed = self.depth_and_context(features)  # (B * N, D + C, h, w)
        plan = self._splat_plan(batch.cameras, batch.bev_aug, size)
        # The sum over a column runs in float32: a bf16 accumulator would lose the small terms.
        with full_precision(mixed):
            rows = mixed.permute(0, 2, 3, 1).float()  # (B * N, h, w, D + C)
            logits, context = rows.split([self.bins, self.out_channels], dim=-1)
            depth = torch.softmax(logits, dim=-1).reshape(-1, self.bins)
            bev = lift_splat(context.reshape(-1, self.out_channels), depth, plan)
        bev = bev.view(b, self.grid.H, self.grid.W, -1).permute(0, 3, 1, 2)
        logits = logits.permute(0, 3, 1, 2).unflatten(0, (b, n))
        return SensorFeatures(bev, depth=logits, image=[level.unflatten(0, (b, n)) for level in levels])

    def _images(self, cameras: Cameras) -> Tensor:
        """What the backbone sees (B, N, 3, H, W); LiDAR depths three times over, so that the backbone is the same."""
        if self.config.camera.input == "rgb":
            return cameras.images
        if cameras.lidar is None:
            raise ValueError("the batch has no LiDAR images")
        return ((cameras.lidar - LIDAR_MEAN) / LIDAR_STD)[:, :, None].expand(-1, -1, 3, -1, -1)

    def _splat_plan(self, cameras: Cameras, bev_aug: Tensor, size: tuple[int, int]) -> SplatPlan:
        """The plan of a batch; the last one is kept, since a fixed rig without augmentation repeats its geometry."""
        parts = (cameras.intrinsics, cameras.ego_from_camera, cameras.image_aug, bev_aug)
        geometry = torch.cat([part.double().flatten() for part in parts])
        known = self._geometry
        if self._plan is None or known is None or known.device != geometry.device or not torch.equal(known, geometry):
            camera, z = self.config.camera, self.config.grid
            depths = camera.depth_min + camera.depth_step * torch.arange(self.bins, device=geometry.device)
            cells = frustum_cells(cameras, bev_aug, self.grid, (z.z_min, z.z_max), depths, size)
            self._plan = plan_splat(cells, len(bev_aug) * self.grid.H * self.grid.W)
            self._geometry = geometry
        return self._plan
