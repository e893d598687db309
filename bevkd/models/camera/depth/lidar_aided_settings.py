"""Settings of the depth net `lidar_aided`."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from bevkd.config.bounds import Width, WidthOrNone
from bevkd.registry import register_settings


@register_settings("depth_net", "lidar_aided")
@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class LidarAidedDepthSettings:
    """Convolutions on an image of LiDAR depths, joined with the image features.

    Attributes:
        channels: of the three convolutions on the depths.
        hidden_channels: of the two convolutions behind them; 0: those of the image features.
    """

    reads_depths: ClassVar[bool] = True
    kind: Literal["lidar_aided"] = "lidar_aided"
    channels: tuple[Width, Width, Width] = (8, 32, 64)
    hidden_channels: WidthOrNone = 0
