"""Settings of the depth net `camera_aware`."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from bevkd.registry import register_settings


@register_settings("depth_net", "camera_aware")
@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class CameraAwareDepthSettings:
    """Its widths are those of the neck."""

    kind: Literal["camera_aware"] = "camera_aware"
