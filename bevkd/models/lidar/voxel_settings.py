"""Settings of the voxel encoder."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from bevkd.config.bounds import Cell, Width
from bevkd.models.lidar.settings import PointSettings
from bevkd.registry import register_settings


@register_settings("lidar_encoder", "voxel")
@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class VoxelSettings(PointSettings):
    """CenterPoint's sparse encoder.

    Attributes:
        channels: one width per sparse stage.
        z_cell: height of a voxel (m).
    """

    kind: Literal["voxel"] = "voxel"
    channels: Annotated[tuple[Width, ...], Field(min_length=1)] = (16, 32, 64, 128)
    z_cell: Cell = 0.2
