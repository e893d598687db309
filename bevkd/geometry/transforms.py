"""Rigid transforms as 4x4 float64 matrices named `target_from_source`; quaternions are (w, x, y, z)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def rotation_from_quaternion(quaternion: ArrayLike) -> Array:
    """Rotation matrices (..., 3, 3) of quaternions (..., 4), normalised first.

    Raises:
        ValueError: a quaternion is not finite or has zero length.
    """
    q = np.asarray(quaternion, dtype=np.float64)
    norm = np.linalg.norm(q, axis=-1, keepdims=True)
    if not np.isfinite(q).all() or (norm < 1e-9).any():
        raise ValueError("quaternion is not finite or has zero length")
    w, x, y, z = np.moveaxis(q / norm, -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def quaternion_from_matrix(rotation: ArrayLike) -> Array:
    """Quaternion (w, x, y, z) with w >= 0 of one rotation matrix (3, 3)."""
    from scipy.spatial.transform import Rotation

    x, y, z, w = Rotation.from_matrix(np.asarray(rotation, dtype=np.float64)).as_quat(canonical=True)
    return np.array([w, x, y, z])


def quaternion_from_yaw(yaw_rad: ArrayLike) -> Array:
    """Quaternions (..., 4) of rotations about +z."""
    yaw = np.asarray(yaw_rad, dtype=np.float64)
    zero = np.zeros_like(yaw)
    return np.stack([np.cos(yaw / 2), zero, zero, np.sin(yaw / 2)], axis=-1)


def yaw_from_rotation(rotation: ArrayLike) -> Array:
    """Heading (rad) of the rotated +x axis in the x-y plane, for matrices (..., 3, 3)."""
    r = np.asarray(rotation, dtype=np.float64)
    return np.arctan2(r[..., 1, 0], r[..., 0, 0])


def pose(translation: ArrayLike, quaternion: ArrayLike) -> Array:
    """4x4 `parent_from_child` from a translation (m) and a quaternion, the way nuScenes stores poses."""
    matrix = np.eye(4)
    matrix[:3, :3] = rotation_from_quaternion(quaternion)
    matrix[:3, 3] = translation
    return matrix


def invert(matrix: ArrayLike) -> Array:
    """Inverse of rigid transforms (..., 4, 4)."""
    m = np.asarray(matrix, dtype=np.float64)
    out = np.zeros_like(m)
    rotation_t = np.swapaxes(m[..., :3, :3], -1, -2)
    out[..., :3, :3] = rotation_t
    out[..., :3, 3] = -np.einsum("...ij,...j->...i", rotation_t, m[..., :3, 3])
    out[..., 3, 3] = 1.0
    return out


def apply(target_from_source: ArrayLike, points: ArrayLike) -> Array:
    """Transform points (N, 3) by one 4x4 matrix."""
    m = np.asarray(target_from_source, dtype=np.float64)
    return np.asarray(points, dtype=np.float64) @ m[:3, :3].T + m[:3, 3]
