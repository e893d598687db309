"""Depth targets for cameras."""

from __future__ import annotations

from bevkd.data.inputs.projected import ProjectedReader
from bevkd.registry import register


@register("input", "depth")
class DepthReader(ProjectedReader):
    """`Cameras.depth`."""

    field = "depth"
