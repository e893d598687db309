"""Settings of the depth net `convs`."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from bevkd.config.bounds import WidthOrNone
from bevkd.registry import register_settings


@register_settings("depth_net", "convs")
@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class ConvsDepthSettings:
    """The depth net `lidar_aided` without its LiDAR.

    Attributes:
        hidden_channels: of the two 3x3 convolutions; 0: those of the image features.
    """

    kind: Literal["convs"] = "convs"
    hidden_channels: WidthOrNone = 0
