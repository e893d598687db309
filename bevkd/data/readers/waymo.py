"""The Waymo Open Dataset v2, the simulator's included."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL.Image import Image

from bevkd.data.inside import Inside
from bevkd.data.options import ConvertOptions
from bevkd.data.points import Points
from bevkd.data.waymo import Segment, convert_waymo
from bevkd.data.waymo.components import COMPONENTS
from bevkd.registry import register

_OPEN_SEGMENTS = 8


@register("reader", "waymo")
class WaymoReader:
    """Reader of Waymo Open Dataset v2 components; a file name is `<folder>/<segment>/<frame time>[/<camera>]`."""

    most_intensity = 1.0  # of the hyperbolic tangent

    def __init__(self, root: str | Path, link_targets: Sequence[str] = ()) -> None:
        self.root, self.inside = Path(root), Inside(root, link_targets)
        self._segment = lru_cache(_OPEN_SEGMENTS)(self._open)

    def _open(self, name: str) -> Segment:
        folder, segment = name.split("/")
        for component in COMPONENTS:
            self.inside.path(f"{folder}/{component}/{segment}.parquet", name)
        return Segment(self.root, name)

    @staticmethod
    def convert(
        root: str | Path,
        version: str | None,
        out: str | Path,
        workers: int = 1,
        options: ConvertOptions | None = None,
    ) -> Path:
        """Write the index; there is one version only. See `convert_waymo`."""
        return convert_waymo(root, out, workers, options)

    def lidar(self, filename: str, token: str) -> Points:
        """Points (P, 5) of all lasers and returns in the vehicle frame: x, y, z, tanh of the intensity, elongation.

        Intensities have no upper end; their hyperbolic tangent is what detectors are customarily given.
        """
        folder, segment, time = filename.split("/")
        points = self._segment(f"{folder}/{segment}").points(int(time))
        points[:, 3] = np.tanh(points[:, 3])
        return points[:, :5].astype(np.float32)

    def image(self, filename: str, token: str) -> Image:
        """Image, RGB."""
        folder, segment, time, camera = filename.split("/")
        return self._segment(f"{folder}/{segment}").image(int(time), int(camera))
