"""Settings of bilinear sampling."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from bevkd.config.bounds import Some
from bevkd.registry import register_settings


@register_settings("view_transform", "sample")
@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class SampleSettings:
    """Layers of voxels that are looked at between grid.z_min and z_max. There is no depth.

    Attributes:
        heights: number of layers.
    """

    kind: Literal["sample"] = "sample"
    heights: Some = 8
