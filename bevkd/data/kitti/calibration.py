"""KITTI calibration files: one named matrix per line, row by row."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bevkd.errors import DataError, nearest
from bevkd.io import read_text

Array = NDArray[np.float64]

# What is read of the file; the other cameras and the IMU are of no use here.
_SHAPES = {"P2": (3, 4), "R0_rect": (3, 3), "Tr_velo_to_cam": (3, 4)}


@dataclass(frozen=True)
class Calibration:
    """Geometry of one frame. The rectified camera frame has x right, y down, z forward (m); ego is the LiDAR frame.

    Attributes:
        projection: `P2` (3, 4), pixels of the left colour image from the rectified frame.
        rectified_from_ego: (4, 4), `R0_rect @ Tr_velo_to_cam`.
    """

    projection: Array
    rectified_from_ego: Array

    @property
    def intrinsics(self) -> Array:
        """(3, 3)."""
        return self.projection[:, :3]

    @cached_property
    def ego_from_rectified(self) -> Array:
        """(4, 4); a true inverse, for the published rotations are rounded."""
        return np.asarray(np.linalg.inv(self.rectified_from_ego), dtype=np.float64)

    @cached_property
    def ego_from_camera(self) -> Array:
        """(4, 4) of the left colour camera, which stands a few centimetres beside the rectified frame's origin."""
        camera_from_rectified = np.eye(4)
        camera_from_rectified[:3, 3] = np.linalg.solve(self.intrinsics, self.projection[:, 3])
        return self.ego_from_rectified @ np.linalg.inv(camera_from_rectified)


def read_calibration(path: str | Path, frame: str | None = None) -> Calibration:
    """Read a calibration file.

    Args:
        path: such as `calib/000123.txt`.
        frame: for messages.

    Raises:
        DataError: the file is missing or unreadable, a matrix is missing, has another number of values, one that is
            not a finite number, or cannot be inverted.
    """
    lines = read_text(path, "calibration", token=frame).splitlines()
    found = {name.strip(): words for name, _, words in (line.partition(":") for line in lines if ":" in line)}
    matrices = {}
    for name, shape in _SHAPES.items():
        if name not in found:
            hint = nearest(name, found)
            raise DataError(f"calibration matrix is missing{hint}", file=path, token=frame, field=name)
        words = found[name].split()
        if len(words) != shape[0] * shape[1]:
            message = f"calibration matrix has {len(words)} values, not {shape[0] * shape[1]}"
            raise DataError(message, file=path, token=frame, field=name)
        try:
            matrices[name] = np.array(words, dtype=np.float64).reshape(shape)
        except ValueError as error:
            raise DataError(f"not a number: {error}", file=path, token=frame, field=name) from None
        if not np.isfinite(matrices[name]).all():
            raise DataError("a value is not finite", file=path, token=frame, field=name)
    rectify, rectified_from_ego = np.eye(4), np.eye(4)
    rectify[:3, :3] = matrices["R0_rect"]
    rectified_from_ego[:3] = matrices["Tr_velo_to_cam"]
    for name, square in (("P2", matrices["P2"][:, :3]), ("R0_rect", rectify), ("Tr_velo_to_cam", rectified_from_ego)):
        if abs(np.linalg.det(square)) < 1e-6:
            raise DataError("calibration matrix cannot be inverted", file=path, token=frame, field=name)
    return Calibration(matrices["P2"], rectify @ rectified_from_ego)
