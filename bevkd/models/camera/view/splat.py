"""Lift-splat (lift-splat-shoot, arXiv 2008.05711; BEVDet): every pixel spreads its context along its ray."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bevkd.config.schema import ModelConfig
from bevkd.data.batch import Cameras
from bevkd.models.camera.view.base import ViewTransform
from bevkd.models.layers import conv_bn_relu, full_precision
from bevkd.models.ops.lift_splat import SplatPlan, frustum_cells, lift_splat, plan_splat
from bevkd.registry import register


@register("view_transform", "lift_splat")
class LiftSplat(ViewTransform):
    """Softmax over depth bins, depth times context, sum over each BEV column.

    With `view.finer` three convolutions follow, of which the second has the stride to the grid (BEVFusion's public
    code): the map is non-negative then.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.bins = config.camera.view.bins
        finer, width = config.camera.view.finer, config.camera.out_channels
        self.grid = self.grid.refined(finer)
        strides = (1, finer, 1) if finer > 1 else ()
        self.reduce = nn.Sequential(*(conv_bn_relu(width, width, config.norm, stride=stride) for stride in strides))
        self._plans: list[tuple[Tensor, SplatPlan]] = []

    def share_geometry(self, other: ViewTransform) -> None:
        """Both keep their plans in one list."""
        assert isinstance(other, LiftSplat)
        self._plans = other._plans

    def forward(self, mixed: Tensor, cameras: Cameras, bev_aug: Tensor) -> tuple[Tensor, Tensor | None]:
        """See `ViewTransform.forward`."""
        b, channels = len(bev_aug), mixed.shape[1] - self.bins
        plan = self._splat_plan(cameras, bev_aug, (mixed.shape[2], mixed.shape[3]))
        # The sum over a column runs in float32: a bf16 accumulator would lose the small terms.
        with full_precision(mixed):
            rows = mixed.permute(0, 2, 3, 1).float()  # (B * N, h, w, D + C)
            logits, context = rows.split([self.bins, channels], dim=-1)
            depth = torch.softmax(logits, dim=-1).reshape(-1, self.bins)
            bev = lift_splat(context.reshape(-1, channels), depth, plan)
        bev = bev.view(b, self.grid.H, self.grid.W, -1).permute(0, 3, 1, 2)
        return self.reduce(bev), logits.permute(0, 3, 1, 2).unflatten(0, (b, -1))

    def _splat_plan(self, cameras: Cameras, bev_aug: Tensor, size: tuple[int, int]) -> SplatPlan:
        """The plan of a batch; the last ones are kept, since a fixed rig without augmentation repeats its geometry."""
        parts = (cameras.intrinsics, cameras.ego_from_camera, cameras.image_aug, bev_aug)
        geometry = torch.cat([part.double().flatten() for part in parts])
        for known, plan in self._plans:
            if known.device == geometry.device and torch.equal(known, geometry):
                return plan
        view, grid = self.config.camera.view, self.config.grid
        heights = view.z_range or (grid.z_min, grid.z_max)
        depths = view.depth_min + view.depth_step * torch.arange(self.bins, device=geometry.device)
        cells = frustum_cells(cameras, bev_aug, self.grid, heights, depths, size)
        plan = plan_splat(cells, len(bev_aug) * self.grid.H * self.grid.W)
        self._plans[:] = [*self._plans, (geometry, plan)][-self.geometries :]
        return plan
