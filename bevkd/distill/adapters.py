"""Adaptation layers between student and teacher maps; training only, dropped at inference."""

from __future__ import annotations

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F

from bevkd.distill.adapter_settings import AdapterConfig
from bevkd.distill.sampling import PointPlan, gather_cells, gather_patches, read_points

_LEAST = 1e-3  # of a sample on the map: less is nothing


class Adapter(nn.Module):
    """Convolution in the precision of the student's map, then (batch norm) (and ReLU) in float32."""

    def __init__(self, config: AdapterConfig, inputs: int, outputs: int) -> None:
        super().__init__()
        self.config = config
        self.conv = nn.Conv2d(inputs, outputs, config.kernel, padding=config.kernel // 2, bias=config.norm == "none")
        self.norm: nn.Module = nn.BatchNorm1d(outputs, eps=1e-3, momentum=0.01)
        if config.norm == "none":
            self.norm = nn.Identity()

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (B, C_student, H, W) -> (B, C_teacher, H, W)."""
        bias = None if self.conv.bias is None else self.conv.bias.to(maps.dtype)
        out = F.conv2d(maps, self.conv.weight.to(maps.dtype), bias, padding=self.conv.padding)
        return self._finish(out.float().flatten(2)).unflatten(2, out.shape[2:])

    def cells(self, maps: Tensor, cell: Tensor, frame: Tensor) -> Tensor:
        """The adapted map at flat cells (n,) of frames (n,): (n, C_teacher)."""
        if self.config.where == "map":
            return gather_cells(self(maps), cell, frame)
        return self._at(gather_patches(maps, cell, frame, self.config.kernel), maps.dtype)

    def points(self, maps: Tensor, plan: PointPlan) -> Tensor:
        """The layer at points, (N, P, C_teacher): the convolution is sampled bilinearly, norm and activation follow.

        As on a map, what lies outside of it is zero, and at its border a sample counts by as much of it as is inside.

        Args:
            maps: (B, C_student, H, W).
            plan: of the points, with the kernel of this layer.
        """
        patches, inside = read_points(maps, plan), plan.inside[..., None]
        patches = patches / inside.clamp(min=_LEAST)[..., None]
        return self._at(patches.flatten(0, 1), maps.dtype).unflatten(0, patches.shape[:2]) * inside

    def _at(self, patches: Tensor, dtype: torch.dtype) -> Tensor:
        """The layer on patches (n, kernel^2, C_student)."""
        weight = self.conv.weight.permute(2, 3, 1, 0).flatten(0, 2)  # (kernel^2 * C_student, C_teacher)
        out = (patches.flatten(1).to(dtype) @ weight.to(dtype)).float()
        if self.conv.bias is not None:
            out = out + self.conv.bias
        return self._finish(out)

    def _finish(self, values: Tensor) -> Tensor:
        """Norm and activation of (n, C) or (B, C, H * W)."""
        # One value has no variance. Among several processes the others may have more, and wait for this one.
        alone = not (distributed.is_available() and distributed.is_initialized())
        if not alone or values.numel() > values.shape[1]:
            values = self.norm(values)
        return F.relu(values) if self.config.act == "relu" else values
