"""What the settings of all LiDAR encoders have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from bevkd.config.bounds import Cell, Count, Spread, Width
from bevkd.data.reads import Lidar, Reads

if TYPE_CHECKING:
    from bevkd.config.schema import DataConfig, ModelConfig


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class PointSettings:
    """How points become cells, and what of a point is looked at.

    Attributes:
        point_features: columns of a point that are read: x, y, z (m), intensity, dt (s), ...
        cell: size of a pillar or voxel (m).
        max_points: per cell; 0: no limit.
        max_voxels: cells per frame; 0: no limit.
        intensity_scale: the released detectors feed raw intensity; 1/255 conditions small nets better.
        out_channels: of the BEV map.
        normalise: bring position, offset, intensity and sweep age to order one.
        dt_scale: per second, for sweep ages that are normalised or averaged.
    """

    point_features: Annotated[int, Field(ge=3, le=100)] = 5
    cell: Cell = 0.075
    max_points: Annotated[int, Field(ge=0, le=100_000)] = 10
    max_voxels: Count = 120_000
    intensity_scale: Annotated[float, Field(ge=0, le=1e6)] = 1.0
    out_channels: Width = 256
    normalise: bool = False
    dt_scale: Spread = 10.0

    def reads(self, model: ModelConfig, data: DataConfig) -> Reads:
        """Points of the key sweep and of the earlier ones that the data say."""
        return Reads.of(Lidar(data.lidar_sweeps, data.lidar_sweep_stride, data.lidar_in_view))
