"""nuScenes tables of any version, the simulator's included."""

from __future__ import annotations

from pathlib import Path

from bevkd.data.nuscenes import convert_nuscenes
from bevkd.registry import register


@register("reader", "nuscenes")
class NuScenesReader:
    """Reader of nuScenes tables."""

    @staticmethod
    def convert(root: str | Path, version: str, out: str | Path, workers: int = 1) -> Path:
        """Write the index of one version; see `convert_nuscenes`."""
        return convert_nuscenes(root, version, out, workers)
