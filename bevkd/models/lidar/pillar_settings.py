"""Settings of the pillar encoder."""

from __future__ import annotations

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from bevkd.models.lidar.settings import PointSettings
from bevkd.registry import register_settings


@register_settings("lidar_encoder", "pillar")
@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class PillarSettings(PointSettings):
    """PointPillars' feature net.

    Attributes:
        channels: width of the pillar feature, then one per strided convolution.
        mean_age: one more channel, the mean of dt * dt_scale - 1 over the points.
    """

    kind: str = "pillar"
    channels: tuple[int, ...] = (64, 64, 128)
    mean_age: bool = False
