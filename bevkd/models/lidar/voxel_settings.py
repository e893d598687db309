"""Settings of the voxel encoder."""

from __future__ import annotations

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

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

    kind: str = "voxel"
    channels: tuple[int, ...] = (16, 32, 64, 128)
    z_cell: float = 0.2
