"""LiDAR points as images."""

from __future__ import annotations

from bevkd.data.inputs.projected import ProjectedReader
from bevkd.registry import register


@register("input", "lidar_image")
class LidarImageReader(ProjectedReader):
    """`Cameras.lidar`."""

    field = "lidar"
