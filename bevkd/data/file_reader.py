"""What readers share whose sensor data are files: points of 32-bit numbers, and images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from PIL.Image import Image

from bevkd.data.images import open_image
from bevkd.data.inside import Inside
from bevkd.data.points import Points, read_lidar


class FileReader:
    """Reads files below the root of a data set.

    Attributes:
        columns: numbers per point, as the format has them.
    """

    columns: ClassVar[int]

    def __init__(self, root: str | Path, point_columns: int | None = None, link_targets: Sequence[str] = ()) -> None:
        self.root, self.point_columns = Path(root), point_columns or self.columns
        self.inside = Inside(root, link_targets)

    def lidar(self, filename: str, token: str) -> Points:
        """Points (P, columns): x, y, z, intensity, and what else the format has."""
        return read_lidar(self.inside.path(filename, token), token, columns=self.point_columns)

    def image(self, filename: str, token: str) -> Image:
        """Image, RGB."""
        return open_image(self.inside.path(filename, token), token)
