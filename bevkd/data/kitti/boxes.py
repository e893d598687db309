"""KITTI objects as boxes in the ego frame, and the benchmark's difficulties.

A KITTI box stands on its bottom face, upright in the rectified camera frame, and is turned by `rotation_y` about that
frame's y axis, which points down; with `rotation_y` = 0 its length lies along the camera's x axis.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bevkd.data.kitti.calibration import Calibration
from bevkd.data.kitti.objects import Objects
from bevkd.geometry import apply, box_corners, wrap_angle, yaw_from_rotation

Array = NDArray[np.float64]

# Easy, moderate, hard: least height in the image (pixels), most occlusion, most truncation.
LIMITS = ((40.0, 0, 0.15), (25.0, 1, 0.30), (25.0, 2, 0.50))
BEYOND = len(LIMITS)  # harder than hard
_NEAR_M = 0.1  # what is closer to the camera's plane is cut off before it is projected
_EDGES = ((0, 1), (1, 2), (2, 3), (3, 0), (4, 5), (5, 6), (6, 7), (7, 4), (0, 4), (1, 5), (2, 6), (3, 7))


def difficulty(objects: Objects) -> NDArray[np.int8]:
    """0 easy, 1 moderate, 2 hard, 3 none of them: the easiest level whose limits an object keeps (N,)."""
    height = objects.column("y2") - objects.column("y1")
    out = np.full(len(objects), BEYOND, dtype=np.int8)
    for level in reversed(range(len(LIMITS))):
        least, occluded, truncated = LIMITS[level]
        keeps = (height >= least) & (objects.column("occluded") <= occluded)
        out[keeps & (objects.column("truncated") <= truncated)] = level
    return out


def rotations(objects: Objects, calibration: Calibration) -> Array:
    """Ego from box axes (length, width to the left, height up): (N, 3, 3)."""
    angle = objects.column("rotation_y")
    cos, sin, zero, one = np.cos(angle), np.sin(angle), np.zeros(len(angle)), np.ones(len(angle))
    columns = [[cos, zero, -sin], [sin, zero, cos], [zero, -one, zero]]
    in_camera = np.stack([np.stack(column, axis=-1) for column in columns], axis=-1)
    return np.asarray(calibration.ego_from_rectified[:3, :3] @ in_camera)


def ego_boxes(objects: Objects, calibration: Calibration) -> Array:
    """Boxes (N, 9) in the ego frame; velocities are not known."""
    out = np.full((len(objects), 9), np.nan)
    centre = np.stack([objects.column(name) for name in ("x", "y", "z")], axis=-1)
    centre[:, 1] -= objects.column("height") / 2
    out[:, :3] = apply(calibration.ego_from_rectified, centre)
    for column, name in ((3, "length"), (4, "width"), (5, "height")):
        out[:, column] = objects.column(name)
    out[:, 6] = yaw_from_rotation(rotations(objects, calibration))
    return out


def count_points(points: NDArray[np.float32], objects: Objects, calibration: Calibration) -> NDArray[np.int64]:
    """Points (P, 3+) of the ego frame in each object (N,), counted in the camera frame, where boxes are upright."""
    out = np.zeros(len(objects), dtype=np.int64)
    if len(objects) == 0:
        return out
    place = apply(calibration.rectified_from_ego, points[:, :3])
    for i in range(len(objects)):
        x, y, z, angle = (objects.column(name)[i] for name in ("x", "y", "z", "rotation_y"))
        height, width, length = (objects.column(name)[i] for name in ("height", "width", "length"))
        off = place - (x, y, z)
        off = off[(np.abs(off[:, 0]) + np.abs(off[:, 2]) <= length + width) & (off[:, 1] <= 0) & (off[:, 1] >= -height)]
        along = np.cos(angle) * off[:, 0] - np.sin(angle) * off[:, 2]
        across = np.sin(angle) * off[:, 0] + np.cos(angle) * off[:, 2]
        out[i] = int(((np.abs(along) <= length / 2) & (np.abs(across) <= width / 2)).sum())
    return out


def placement(boxes: Array, calibration: Calibration) -> tuple[Array, Array, Array]:
    """Boxes (N, 7+) of the ego frame as KITTI writes them: upright in the camera frame, with the same centre.

    Returns:
        the middle of the bottom face in the rectified camera frame (N, 3), `rotation_y` (N,), and `alpha` (N,), the
        rotation as the camera sees it.
    """
    place = apply(calibration.rectified_from_ego, boxes[:, :3])
    place[:, 1] += boxes[:, 5] / 2
    heading = np.stack([np.cos(boxes[:, 6]), np.sin(boxes[:, 6]), np.zeros(len(boxes))], axis=-1)
    ahead = heading @ calibration.rectified_from_ego[:3, :3].T
    angle = np.arctan2(-ahead[:, 2], ahead[:, 0])
    return place, angle, wrap_angle(angle - np.arctan2(place[:, 0], place[:, 2]))


def image_box(box: Array, calibration: Calibration, size: tuple[int, int]) -> tuple[Array, float] | None:
    """Where a box (7+,) of the ego frame is in the image.

    Args:
        box: one box.
        calibration: of the frame.
        size: width and height of the image.

    Returns:
        x1, y1, x2, y2 (pixels) of the part inside the image, and the share of the whole that lies outside; None where
        nothing of it is in the image.
    """
    corners = apply(calibration.rectified_from_ego, box_corners(box[None])[0])
    points = [corner for corner in corners if corner[2] > _NEAR_M]
    for a, b in _EDGES:
        if (corners[a, 2] > _NEAR_M) != (corners[b, 2] > _NEAR_M):
            share = (_NEAR_M - corners[a, 2]) / (corners[b, 2] - corners[a, 2])
            points.append(corners[a] + share * (corners[b] - corners[a]))
    if not points:
        return None
    homogeneous = np.column_stack([np.array(points), np.ones(len(points))]) @ calibration.projection.T
    pixels = homogeneous[:, :2] / homogeneous[:, 2:]
    whole = np.concatenate([pixels.min(axis=0), pixels.max(axis=0)])
    limit = np.array([size[0] - 1, size[1] - 1, size[0] - 1, size[1] - 1], dtype=np.float64)
    inside = np.clip(whole, 0.0, limit)
    area = float(np.prod(inside[2:] - inside[:2]))
    if area <= 0:
        return None
    return inside, 1.0 - area / float(np.prod(whole[2:] - whole[:2]))
