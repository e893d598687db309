"""Settings of the pillar encoder that reads virtual points."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from bevkd.data.reads import LidarVirtual, Reads
from bevkd.models.lidar.pillar_settings import PillarSettings
from bevkd.registry import register_settings

if TYPE_CHECKING:
    from bevkd.config.schema import DataConfig, ModelConfig


@register_settings("lidar_encoder", "pillar_virtual")
@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class PillarVirtualSettings(PillarSettings):
    """MVP's points in PointPillars' feature net.

    Attributes:
        point_features: of every point, whether LiDAR's, painted or virtual.
    """

    kind: Literal["pillar_virtual"] = "pillar_virtual"  # type: ignore[assignment]
    point_features: Literal[17] = 17

    def reads(self, model: ModelConfig, data: DataConfig) -> Reads:
        """LiDAR points, and what masks add to the same sweeps."""
        return super().reads(model, data) | Reads.of(LidarVirtual(data.lidar_sweeps, data.lidar_sweep_stride))
