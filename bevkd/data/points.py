"""LiDAR sweeps: reading them, and merging several in the ego frame of one keyframe."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bevkd.data.valid import FARTHEST_M, within
from bevkd.errors import DataError
from bevkd.geometry import invert
from bevkd.io import read_bytes

Points = NDArray[np.float32]

BLOCK = 32_768  # rows of a product; see `multiply`


def read_lidar(path: str | Path, token: str | None = None, columns: int = 5) -> Points:
    """Points (P, columns) of a file of float32: x, y, z (sensor frame, m), intensity, ...

    nuScenes' `.pcd.bin` has a fifth column, the ring index; KITTI's velodyne `.bin` has four. Files of three columns
    get a fourth, intensities of 0.

    Raises:
        DataError: missing, empty or truncated file, or a point that is not finite or farther away than any LiDAR sees.
    """
    content = read_bytes(path, "LiDAR file", token=token, field="filename")
    if len(content) == 0 or len(content) % (4 * columns):
        raise DataError(
            f"truncated LiDAR file: {len(content)} bytes are not a positive multiple of {4 * columns}",
            file=path, token=token, field="filename",
        )  # fmt: skip
    points = np.frombuffer(content, dtype="<f4").reshape(-1, columns)
    # All numbers at once, which takes a fraction of the time that three columns do; rings and times are small, too.
    if not max(points.max(), -points.min()) <= FARTHEST_M:  # not a number fails as well
        if not np.isfinite(points[:, :4]).all():
            raise DataError("LiDAR file holds points that are not finite", file=path, token=token, field="points")
        if not within(points[:, :3], FARTHEST_M).all():
            message = "LiDAR file holds points farther than any LiDAR sees: another unit, or another layout?"
            raise DataError(message, file=path, token=token, field="points")
    return points if columns > 3 else np.pad(points, ((0, 0), (0, 4 - columns)))


def multiply(points: NDArray[Any], matrix: NDArray[Any]) -> NDArray[Any]:
    """`points[:, :3] @ matrix` (P, n) of points (P, 3+), a block of rows at a time.

    OpenBLAS divides a larger product among threads, which on busy cores wait for each other: up to 300 ns a row instead
    of 2. The bits are those of the product at once, for which no block may be a single row: that would be a product of
    another kind, which rounds otherwise.
    """
    out = np.empty((len(points), matrix.shape[1]), dtype=np.result_type(points, matrix))
    starts = range(0, max(1, len(points) - BLOCK // 2), BLOCK)  # a short rest belongs to the block before it
    for start in starts:
        rows = slice(start, None if start == starts[-1] else start + BLOCK)
        np.matmul(points[rows, :3], matrix, out=out[rows])
    return out


def moved(points: Points, target_from_source: NDArray[np.float64]) -> Points:
    """Coordinates (P, 3) of points (P, 3+) in another frame; computed in float32, so keep them local."""
    out: Points = multiply(points, target_from_source[:3, :3].T.astype(np.float32))
    out += target_from_source[:3, 3].astype(np.float32)
    return out


def transform(points: Points, target_from_source: NDArray[np.float64]) -> Points:
    """Points (P, 3+) with their first three columns in another frame."""
    out = points.copy()
    out[:, :3] = moved(points, target_from_source)
    return out


def merge_sweeps(sweeps: Sequence[tuple[Points, NDArray[np.float64], float]], count: int) -> Points:
    """Merge a key sweep and `count` previous ones.

    Args:
        sweeps: key sweep first, then previous ones, newest first: points (P, 4+), `ego_from_sensor` (4, 4) into the ego
            frame of the keyframe, age dt (s).
        count: how many previous sweeps to merge. Where fewer exist the last one is repeated (the key sweep where there
            is none), so that the point density of a frame does not depend on its place in the scene.

    Returns:
        (P, 5): x, y, z (ego frame of the keyframe), intensity, dt; the key sweep comes first.
    """
    taken = sweeps[: count + 1]
    missing, last = count + 1 - len(taken), len(taken[-1][0])
    out = np.empty((sum(len(points) for points, _, _ in taken) + missing * last, 5), dtype=np.float32)
    at = 0
    for points, ego_from_sensor, age in taken:
        part = out[at : at + len(points)]
        part[:, :3] = moved(points, ego_from_sensor)
        part[:, 3] = points[:, 3]
        part[:, 4] = age
        at += len(points)
    out[at:].reshape(missing, last, 5)[:] = out[at - last : at]
    return out


def in_view(
    points: Points, ego_from_camera: NDArray[np.float64], intrinsics: NDArray[np.float64], sizes: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Which points (P, 3+) of the ego frame lie in the image of some camera, (P,).

    Args:
        points: in the ego frame.
        ego_from_camera, intrinsics: (N, 4, 4) and (N, 3, 3).
        sizes: (N, 2) width and height of the images.
    """
    out = np.zeros(len(points), dtype=bool)
    for pose, matrix, size in zip(ego_from_camera, intrinsics, sizes, strict=True):
        camera_from_ego = invert(pose)
        local = multiply(points, camera_from_ego[:3, :3].T)
        local += camera_from_ego[:3, 3]
        pixel = multiply(local, matrix.T)  # times the depth
        inside = (pixel[:, :2] >= 0) & (pixel[:, :2] < local[:, 2:] * size)
        out |= (local[:, 2] > 0) & inside.all(axis=1)
    return out
