"""KITTI object detection, the simulator's included."""

from __future__ import annotations

from pathlib import Path

from PIL.Image import Image

from bevkd.data.images import open_image
from bevkd.data.kitti import convert_kitti
from bevkd.data.kitti.convert import MOST_REFLECTANCE
from bevkd.data.options import ConvertOptions
from bevkd.data.points import Points, read_lidar
from bevkd.registry import register


@register("reader", "kitti")
class KittiReader:
    """Reader of KITTI object detection."""

    most_intensity = MOST_REFLECTANCE

    def __init__(self, root: str | Path, point_columns: int = 4) -> None:
        self.root, self.point_columns = Path(root), point_columns

    @staticmethod
    def convert(
        root: str | Path,
        version: str | None,
        out: str | Path,
        workers: int = 1,
        options: ConvertOptions | None = None,
    ) -> Path:
        """Write the index; there is one version only. See `convert_kitti`."""
        return convert_kitti(root, out, workers, options)

    def lidar(self, filename: str, token: str) -> Points:
        """Points (P, 4): x, y, z, reflectance in [0, 1]."""
        return read_lidar(self.root / filename, token, columns=self.point_columns)

    def image(self, filename: str, token: str) -> Image:
        """Image, RGB."""
        return open_image(self.root / filename, token)
