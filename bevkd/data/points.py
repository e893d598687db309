"""LiDAR sweeps: reading them, and merging several in the ego frame of one keyframe."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bevkd.errors import DataError

Points = NDArray[np.float32]


def read_lidar(path: str | Path, token: str | None = None, columns: int = 5) -> Points:
    """Points (P, columns) of a file of float32: x, y, z (sensor frame, m), intensity, ...

    nuScenes' `.pcd.bin` has a fifth column, the ring index; KITTI's velodyne `.bin` has four.

    Raises:
        DataError: missing, empty or truncated file, or a coordinate that is not finite.
    """
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError:
        raise DataError("LiDAR file is missing", file=path, token=token, field="filename") from None
    if len(content) == 0 or len(content) % (4 * columns):
        raise DataError(
            f"truncated LiDAR file: {len(content)} bytes are not a positive multiple of {4 * columns}",
            file=path, token=token, field="filename",
        )  # fmt: skip
    points = np.frombuffer(content, dtype="<f4").reshape(-1, columns)
    if not np.isfinite(points[:, :4]).all():
        raise DataError("LiDAR file holds points that are not finite", file=path, token=token, field="points")
    return points


def transform(points: Points, target_from_source: NDArray[np.float64]) -> Points:
    """Move the first three columns of points (P, 3+); computed in float32, so keep coordinates local."""
    out = points.copy()
    rotation = target_from_source[:3, :3].T.astype(np.float32)
    out[:, :3] = points[:, :3] @ rotation + target_from_source[:3, 3].astype(np.float32)
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
    parts = []
    for points, ego_from_sensor, age in sweeps[: count + 1]:
        part = np.empty((len(points), 5), dtype=np.float32)
        part[:, :4] = transform(points[:, :4], ego_from_sensor)
        part[:, 4] = age
        parts.append(part)
    parts += [parts[-1]] * (count + 1 - len(parts))
    return np.concatenate(parts)
