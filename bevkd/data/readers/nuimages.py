"""nuImages, the simulator's included."""

from __future__ import annotations

from pathlib import Path

from bevkd.data.file_reader import FileReader
from bevkd.data.nuimages.convert import convert_nuimages
from bevkd.data.options import ConvertOptions
from bevkd.registry import register


@register("reader", "nuimages")
class NuImagesReader(FileReader):
    """Reader of nuImages: images alone."""

    columns = 5  # of its LiDAR files, which nothing here reads

    @staticmethod
    def convert(
        root: str | Path,
        version: str | None,
        out: str | Path,
        workers: int = 1,
        options: ConvertOptions | None = None,
    ) -> Path:
        """Write the index of one version, or of all that are there (default, `v1.0`); see `convert_nuimages`."""
        return convert_nuimages(root, version, out, workers, options)
