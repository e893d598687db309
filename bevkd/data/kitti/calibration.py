"""KITTI calibration files: one named matrix per line, row by row."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bevkd.data import valid
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
        DataError: the file is missing or unreadable, a matrix is missing or there twice, has another number of values,
            one that is not a finite number, or is not what it is given for: a rotation, a pose, a pinhole camera.
    """
    lines = [line for line in read_text(path, "calibration", token=frame).split("\n") if ":" in line]
    found: dict[str, list[str]] = {}
    for line in lines:
        name, _, rest = line.partition(":")
        if found.setdefault(name.strip(), words := rest.split()) is not words and name.strip() in _SHAPES:
            raise DataError("calibration matrix is there twice", file=path, token=frame, field=name.strip())
    matrices = {}
    for name, shape in _SHAPES.items():
        if name not in found:
            hint = nearest(name, found)
            raise DataError(f"calibration matrix is missing{hint}", file=path, token=frame, field=name)
        words = found[name]
        if len(words) != shape[0] * shape[1]:
            message = f"calibration matrix has {len(words)} values, not {shape[0] * shape[1]}"
            raise DataError(message, file=path, token=frame, field=name)
        try:
            matrices[name] = np.array([valid.number(word) for word in words]).reshape(shape)
        except ValueError as error:
            raise DataError(f"a value of the matrix: {error}", file=path, token=frame, field=name) from None
    rectify, rectified_from_ego = np.eye(4), np.eye(4)
    rectify[:3, :3] = matrices["R0_rect"]
    rectified_from_ego[:3] = matrices["Tr_velo_to_cam"]
    for name, matrix in (("R0_rect", rectify), ("Tr_velo_to_cam", rectified_from_ego)):
        if abs(np.linalg.det(matrix)) < 1e-6:
            raise DataError("calibration matrix cannot be inverted", file=path, token=frame, field=name)
        if not valid.good_poses(matrix[None], valid.MOUNT_M)[0]:
            message = f"calibration matrix is not a rotation and a translation of at most {valid.MOUNT_M:g} m"
            raise DataError(message, file=path, token=frame, field=name)
    square = matrices["P2"][:, :3]
    if abs(np.linalg.det(square)) < 1e-6:
        raise DataError("calibration matrix cannot be inverted", file=path, token=frame, field="P2")
    if not valid.good_intrinsics(square[None])[0] or not _near(matrices["P2"]):
        message = "calibration matrix is not that of a pinhole camera near the rectified frame's origin"
        raise DataError(message, file=path, token=frame, field="P2")
    return Calibration(matrices["P2"], rectify @ rectified_from_ego)


def _near(projection: Array) -> bool:
    """Whether the camera of a projection (3, 4) stands where it may."""
    return bool(valid.within(np.linalg.solve(projection[:, :3], projection[:, 3])[None], valid.MOUNT_M)[0])
