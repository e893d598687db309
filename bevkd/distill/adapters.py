"""Adaptation layers between student and teacher maps; training only, dropped at inference."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F

from bevkd.distill.adapter_settings import AdapterConfig
from bevkd.distill.sampling import PointPlan, gather_cells, gather_patches, read_points

_LEAST = 1e-3  # of a sample on the map: less is nothing


def module_key(feature: str) -> str:
    """The key of a feature's layer in a `ModuleDict`, where names have no dots."""
    return feature.replace(".", "_")


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


class MapConvolution(nn.Module):
    """A 3x3 convolution of a whole map in its precision, then batch norm over all of its cells and, unless `act` is
    "none", ReLU in float32.

    The same layers as an `Adapter` on the map, at half of its time: nothing leaves the order of memory of the map.
    """

    def __init__(self, inputs: int, outputs: int, act: Literal["relu", "none"] = "relu") -> None:
        super().__init__()
        self.act = act
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)  # as SimDistill's code has it

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (B, C_student, H, W) -> (B, C_teacher, H, W)."""
        out = F.conv2d(maps, self.conv.weight.to(maps.dtype), padding=1)
        out = self.norm(out.float())
        return F.relu(out, inplace=True) if self.act == "relu" else out


class MapAdapter(nn.Module):
    """A student's whole map at the size and width of the teacher's: bilinear resampling and 1x1 convolutions.

    With more than one layer each has batch norm and ReLU, all but the last the student's width; a single one is a
    convolution with a bias. Weights of bilinear resampling add up to one, so that it commutes with the first
    convolution, which runs at the student's resolution.

    Args:
        inputs: channels of the student's map.
        outputs: channels of the teacher's.
        layers: 1x1 convolutions.
        align_corners: of the resampling: whether the centres of the corner cells of both maps meet, or their edges.
    """

    def __init__(self, inputs: int, outputs: int, layers: int, align_corners: bool = True) -> None:
        super().__init__()
        self.align_corners, self.rectified = align_corners, layers > 1
        widths = list(pairwise([*[inputs] * layers, outputs]))
        # Linear layers on rows: of 1x1 convolutions the fastest form, back above all.
        self.layers = nn.ModuleList(nn.Linear(before, after, bias=not self.rectified) for before, after in widths)
        self.norms = nn.ModuleList(nn.BatchNorm2d(after) for _, after in widths if self.rectified)

    def forward(self, maps: Tensor, size: tuple[int, int]) -> Tensor:
        """Maps (B, C_student, h, w) to (B, *size, C_teacher) in float32, channels last."""
        x = self._layer(0, maps.permute(0, 2, 3, 1))
        if x.shape[1:3] != size:
            resized = F.interpolate(x.permute(0, 3, 1, 2), size, mode="bilinear", align_corners=self.align_corners)
            x = resized.permute(0, 2, 3, 1)
        for k, norm in enumerate(self.norms):
            x = x if k == 0 else self._layer(k, x)
            x = F.relu(norm(x.permute(0, 3, 1, 2)), inplace=True).permute(0, 2, 3, 1)
        return x.float()

    def _layer(self, k: int, rows: Tensor) -> Tensor:
        layer = self.layers[k]
        assert isinstance(layer, nn.Linear)
        # In the precision of the student's map.
        return F.linear(rows, layer.weight.to(rows.dtype), None if layer.bias is None else layer.bias.to(rows.dtype))
