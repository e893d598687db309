"""Frames, boxes and the BEV grid: the only place where world coordinates become cells."""

from bevkd.geometry.boxes import (
    box_corners,
    box_corners_bev,
    points_in_boxes,
    transform_boxes,
    wrap_angle,
)
from bevkd.geometry.grid import Area, BEVGrid
from bevkd.geometry.transforms import (
    apply,
    invert,
    pose,
    quaternion_from_matrix,
    quaternion_from_yaw,
    rotation_from_quaternion,
    yaw_from_rotation,
)

__all__ = [
    "Area",
    "BEVGrid",
    "apply",
    "box_corners",
    "box_corners_bev",
    "invert",
    "points_in_boxes",
    "pose",
    "quaternion_from_matrix",
    "quaternion_from_yaw",
    "rotation_from_quaternion",
    "transform_boxes",
    "wrap_angle",
    "yaw_from_rotation",
]
