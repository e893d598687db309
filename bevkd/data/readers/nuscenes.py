"""nuScenes tables of any version, the simulator's included."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bevkd.data.file_reader import FileReader
from bevkd.data.nuscenes import convert_nuscenes
from bevkd.data.nuscenes.files import COLUMNS, MOST_INTENSITY
from bevkd.data.nuscenes.maps import RoadMaps
from bevkd.data.options import ConvertOptions
from bevkd.registry import register


@register("reader", "nuscenes")
class NuScenesReader(FileReader):
    """Reader of nuScenes tables; points are x, y, z, intensity 0-255, ring index."""

    columns, most_intensity = COLUMNS, MOST_INTENSITY

    @staticmethod
    def convert(
        root: str | Path,
        version: str | None,
        out: str | Path,
        workers: int = 1,
        options: ConvertOptions | None = None,
    ) -> Path:
        """Write the index of one version (default `v1.0-trainval`); see `convert_nuscenes`."""
        return convert_nuscenes(root, version or "v1.0-trainval", out, workers, options)

    @staticmethod
    def roads(root: str | Path, version: str, link_targets: Sequence[str] = ()) -> RoadMaps:
        """Roads and pavements by location; see `RoadMaps`."""
        return RoadMaps(root, version, link_targets)
