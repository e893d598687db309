"""Boxes `(x, y, z, l, w, h, yaw, vx, vy)`: geometric centre, metres, yaw counter-clockwise from +x (rad), m/s.

Every function takes boxes with at least seven columns and works on NumPy arrays.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bevkd.geometry.transforms import apply, yaw_from_rotation

Array = NDArray[np.float64]

# Corner signs: first the four bottom corners in the order of UniDistill's crucial points, then the four top ones.
_SIGNS = np.array(
    [[-1, -1, -1], [-1, 1, -1], [1, 1, -1], [1, -1, -1], [-1, -1, 1], [-1, 1, 1], [1, 1, 1], [1, -1, 1]],
    dtype=np.float64,
)


def wrap_angle(angle_rad: ArrayLike) -> Array:
    """Wrap angles to [-pi, pi)."""
    return (np.asarray(angle_rad, dtype=np.float64) + np.pi) % (2 * np.pi) - np.pi


def box_corners(boxes: ArrayLike) -> Array:
    """The eight corners (N, 8, 3) of boxes (N, 7+), bottom four first."""
    b = np.asarray(boxes, dtype=np.float64).reshape(-1, np.shape(boxes)[-1])
    local = _SIGNS[None] * b[:, None, 3:6] / 2
    cos, sin = np.cos(b[:, 6])[:, None], np.sin(b[:, 6])[:, None]
    x = cos * local[..., 0] - sin * local[..., 1]
    y = sin * local[..., 0] + cos * local[..., 1]
    return np.stack([x, y, local[..., 2]], axis=-1) + b[:, None, :3]


def box_corners_bev(boxes: ArrayLike) -> Array:
    """The four BEV corners (N, 4, 2) in the order (-,-), (-,+), (+,+), (+,-) of (length, width)."""
    return box_corners(boxes)[:, :4, :2]


def points_in_boxes(points: ArrayLike, boxes: ArrayLike, margin: float = 0.0) -> NDArray[np.bool_]:
    """Mask (N_boxes, N_points): which points (P, 3+) lie inside which boxes (N, 7+), grown by `margin` m per side."""
    p = np.asarray(points, dtype=np.float64)[:, :3]
    b = np.asarray(boxes, dtype=np.float64).reshape(-1, np.shape(boxes)[-1])
    mask = np.zeros((len(b), len(p)), dtype=bool)
    for i, box in enumerate(b):
        d = p - box[:3]
        half = box[3:6] / 2 + margin
        near = np.flatnonzero((np.abs(d[:, 0]) <= half[:2].sum()) & (np.abs(d[:, 1]) <= half[:2].sum()))
        cos, sin = np.cos(box[6]), np.sin(box[6])
        along = cos * d[near, 0] + sin * d[near, 1]
        across = -sin * d[near, 0] + cos * d[near, 1]
        mask[i, near] = (np.abs(along) <= half[0]) & (np.abs(across) <= half[1]) & (np.abs(d[near, 2]) <= half[2])
    return mask


def transform_boxes(target_from_source: ArrayLike, boxes: ArrayLike) -> Array:
    """Boxes (N, 7 or 9) moved by a rigid transform whose rotation is (nearly) about z; sizes stay."""
    m = np.asarray(target_from_source, dtype=np.float64)
    out = np.array(boxes, dtype=np.float64).reshape(-1, np.shape(boxes)[-1])
    out[:, :3] = apply(m, out[:, :3])
    heading = np.stack([np.cos(out[:, 6]), np.sin(out[:, 6]), np.zeros(len(out))], axis=-1) @ m[:3, :3].T
    out[:, 6] = np.arctan2(heading[:, 1], heading[:, 0])
    if out.shape[1] >= 9:
        velocity = np.concatenate([out[:, 7:9], np.zeros((len(out), 1))], axis=-1) @ m[:3, :3].T
        out[:, 7:9] = velocity[:, :2]
    return out


__all__ = [
    "box_corners",
    "box_corners_bev",
    "points_in_boxes",
    "transform_boxes",
    "wrap_angle",
    "yaw_from_rotation",
]
