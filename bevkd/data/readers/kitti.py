"""KITTI object detection, the simulator's included."""

from __future__ import annotations

from pathlib import Path

from bevkd.data.file_reader import FileReader
from bevkd.data.kitti import convert_kitti
from bevkd.data.kitti.convert import MOST_REFLECTANCE
from bevkd.data.options import ConvertOptions
from bevkd.registry import register


@register("reader", "kitti")
class KittiReader(FileReader):
    """Reader of KITTI object detection; points are x, y, z, reflectance in [0, 1]."""

    columns, most_intensity = 4, MOST_REFLECTANCE

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
