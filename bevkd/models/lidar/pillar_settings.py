"""Settings of the pillar encoder."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from bevkd.config.bounds import Width
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

    kind: Literal["pillar"] = "pillar"
    channels: Annotated[tuple[Width, ...], Field(min_length=1)] = (64, 64, 128)
    mean_age: bool = False
