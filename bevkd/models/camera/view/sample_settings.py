"""Settings of bilinear sampling."""

from __future__ import annotations

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from bevkd.registry import register_settings


@register_settings("view_transform", "sample")
@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class SampleSettings:
    """Layers of voxels that are looked at between grid.z_min and z_max. There is no depth.

    Attributes:
        heights: number of layers.
    """

    kind: str = "sample"
    heights: int = Field(default=8, ge=1)
