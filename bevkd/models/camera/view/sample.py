"""Bilinear sampling (Simple-BEV, arXiv 2206.07959, section 3): every voxel reads the images where it is seen."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import grid_sample

from bevkd.config.schema import ModelConfig
from bevkd.data.batch import Cameras
from bevkd.models.camera.view.base import ViewTransform
from bevkd.models.layers import full_precision
from bevkd.registry import register

_NEAREST = 0.1  # metres along the optical axis; what is nearer, or behind, is not seen


@register("view_transform", "sample")
class BilinearSampling(ViewTransform):
    """Mean over the cameras that see a voxel, then one 1x1 convolution over the `heights` layers of a column.

    No depth is predicted, so depth supervision is not possible. Voxels that no camera sees are zero.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        camera = config.camera
        self.merge = nn.Conv2d(camera.view.heights * camera.out_channels, camera.out_channels, 1)

    def voxels(self, device: torch.device) -> Tensor:
        """Centres (Z, H, W, 3) in the augmented ego frame (m)."""
        grid, z = self.grid, self.config.grid
        layers = self.config.camera.view.heights
        place = grid.cell_centres(device).expand(layers, -1, -1, -1)
        height = z.z_min + (z.z_max - z.z_min) / layers * (torch.arange(layers, device=device) + 0.5)
        return torch.cat([place, height.view(-1, 1, 1, 1).expand(-1, grid.H, grid.W, 1)], dim=-1)

    def forward(self, mixed: Tensor, cameras: Cameras, bev_aug: Tensor) -> tuple[Tensor, Tensor | None]:
        """See `ViewTransform.forward`; there are no depth logits."""
        b, n = cameras.intrinsics.shape[:2]
        with full_precision(mixed):
            context = mixed.float().unflatten(0, (b, n))
            places, seen = self._pixels(cameras, bev_aug)
            total: Tensor | float = 0.0
            for camera in range(n):  # one after the other: the volumes of all of them would not fit
                read = grid_sample(context[:, camera], places[:, camera], align_corners=True)  # (B, C, Z * H, W)
                total = total + read * seen[:, camera, None]
            assert isinstance(total, Tensor)
            mean = total / seen.sum(1, keepdim=True).clamp(min=1)
        columns = mean.unflatten(2, (self.config.camera.view.heights, self.grid.H)).flatten(1, 2)
        return self.merge(columns), None

    @torch.no_grad()
    def _pixels(self, cameras: Cameras, bev_aug: Tensor) -> tuple[Tensor, Tensor]:
        """Where each camera has each voxel: (B, N, Z * H, W, 2) in [-1, 1], and whether it has it, (B, N, Z * H, W)."""
        voxels = self.voxels(bev_aug.device)
        shape = voxels.shape[:-1]
        points = torch.cat([voxels, torch.ones_like(voxels[..., :1])], dim=-1).reshape(-1, 4).double()
        to_camera = torch.linalg.inv(bev_aug.double()[:, None] @ cameras.ego_from_camera.double())[..., :3, :]
        pixel = cameras.image_aug.double() @ cameras.intrinsics.double() @ to_camera @ points.T  # (B, N, 3, K)
        depth = pixel[..., 2, :]
        height, width = cameras.images.shape[-2:]
        # As in lift-splat, the first and last cells of the feature map stand for the first and last pixels.
        last = pixel.new_tensor([width - 1, height - 1])
        place = (2 * (pixel[..., :2, :] / depth.clamp(min=_NEAREST)[..., None, :]).mT / last - 1).float()
        seen = (depth > _NEAREST) & (place.abs() <= 1).all(dim=-1)
        rows = (shape[0] * shape[1], shape[2])
        return place.unflatten(2, rows), seen.float().unflatten(2, rows)
