"""What an annotation says beyond the box: points inside, visibility."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bevkd.geometry.transforms import rotation_from_quaternion
from bevkd.sim.rig import Calibration
from bevkd.sim.vocabulary import VISIBILITY

Array = NDArray[np.float64]


def annotation_rotation(yaw: float) -> list[float]:
    """Quaternion (w, x, y, z) of an upright box."""
    return [float(np.cos(yaw / 2)), 0.0, 0.0, float(np.sin(yaw / 2))]


def count_lidar_points(
    points: NDArray[np.float32],
    centre: Array,
    size: Array,
    rotation: list[list[float]],
    ego: dict[str, Any],
    calibration: Calibration,
) -> NDArray[np.int64]:
    """LiDAR points per box, counted from what is stored: float32 points, and boxes moved into the sensor frame.

    Faces belong to the box, and the same projections onto its edges are compared as in the nuScenes convention.

    Args:
        points: (P, 3+) in the sensor frame.
        centre: (N, 3) world; size: (N, 3) l, w, h; rotation: N quaternions, world.
        ego: ego pose record of the scan.
    """
    sensor_from_ego = calibration.ego_from_sensor.T
    ego_from_world = rotation_from_quaternion(ego["rotation"]).T
    xyz = points[:, :3].astype(np.float64)
    out = np.zeros(len(centre), dtype=np.int64)
    if len(centre) == 0:
        return out
    in_ego = (centre - np.asarray(ego["translation"])) @ ego_from_world.T
    middles = (in_ego - np.asarray(calibration.translation)) @ sensor_from_ego.T
    edges = (sensor_from_ego @ ego_from_world) @ rotation_from_quaternion(rotation) * size[:, None, :]
    radii = (size**2).sum(axis=1) / 4 + 1e-6
    for i, (middle, axes) in enumerate(zip(middles, edges, strict=True)):
        from_middle = xyz - middle
        near = from_middle[np.einsum("ij,ij->i", from_middle, from_middle) <= radii[i]]
        along = (near + axes.sum(axis=1) / 2) @ axes
        out[i] = ((along >= 0) & (along <= (axes * axes).sum(axis=0))).all(axis=1).sum()
    return out


def count_radar_points(points: Array, poses: Array, size: Array) -> NDArray[np.int64]:
    """Radar detections (R, 2) per footprint of poses (N, 3) and sizes (N, 3), in the ego frame, any height."""
    d = points[None] - poses[:, None, :2]
    c, s = np.cos(poses[:, 2])[:, None], np.sin(poses[:, 2])[:, None]
    along, across = c * d[..., 0] + s * d[..., 1], c * d[..., 1] - s * d[..., 0]
    inside = (np.abs(along) <= size[:, None, 0] / 2) & (np.abs(across) <= size[:, None, 1] / 2)
    return inside.sum(axis=1)


def visibility_token(pixels: tuple[int, int], rays: tuple[int, int]) -> str:
    """Token "1" to "4" of the visible fraction.

    Both arguments are (visible, visible if it were alone): pixels over all images, and LiDAR rays, which decide where
    no image shows the object.
    """
    visible, alone = pixels if pixels[1] > 0 else rays
    fraction = visible / alone if alone else 0.0
    return str(1 + sum(fraction >= limit for _, limit in VISIBILITY[:-1]))
