"""nuScenes tables of any version, the simulator's included."""

from __future__ import annotations

from pathlib import Path

from PIL.Image import Image

from bevkd.data.images import open_image
from bevkd.data.nuscenes import convert_nuscenes
from bevkd.data.nuscenes.files import MOST_INTENSITY
from bevkd.data.options import ConvertOptions
from bevkd.data.points import Points, read_lidar
from bevkd.registry import register


@register("reader", "nuscenes")
class NuScenesReader:
    """Reader of nuScenes tables."""

    most_intensity = MOST_INTENSITY

    def __init__(self, root: str | Path, point_columns: int = 5) -> None:
        self.root, self.point_columns = Path(root), point_columns

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

    def lidar(self, filename: str, token: str) -> Points:
        """Points (P, 5): x, y, z, intensity 0-255, ring index."""
        return read_lidar(self.root / filename, token, columns=self.point_columns)

    def image(self, filename: str, token: str) -> Image:
        """Image, RGB."""
        return open_image(self.root / filename, token)
