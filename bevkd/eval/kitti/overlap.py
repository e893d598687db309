"""Overlaps of KITTI objects: of image boxes, of footprints in BEV, of boxes in 3D."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from bevkd.data.kitti.objects import Floats, Ints, Objects, placed
from bevkd.eval.groups import Groups
from bevkd.models.ops.rotated import intersection_area

# (intersection, size of a, size of b), each (P,), of paired objects.
Measure = Callable[[Objects, Objects], tuple[Floats, Floats, Floats]]


def image(a: Objects, b: Objects) -> tuple[Floats, Floats, Floats]:
    """Areas in square pixels."""
    (ax1, ay1, ax2, ay2), (bx1, by1, bx2, by2) = (
        [objects.column(name) for name in ("x1", "y1", "x2", "y2")] for objects in (a, b)
    )
    width = np.minimum(ax2, bx2) - np.maximum(ax1, bx1)
    height = np.minimum(ay2, by2) - np.maximum(ay1, by1)
    inter = np.where((width > 0) & (height > 0), width * height, 0.0)
    return inter, (ax2 - ax1) * (ay2 - ay1), (bx2 - bx1) * (by2 - by1)


def bev(a: Objects, b: Objects) -> tuple[Floats, Floats, Floats]:
    """Areas of the footprints in the x-z plane, in square metres."""
    footprints = [_footprint(objects) for objects in (a, b)]
    area = [f[:, 2] * f[:, 3] for f in footprints]
    inter = np.zeros(len(a))
    reach = [np.hypot(f[:, 2], f[:, 3]) / 2 for f in footprints]
    apart = np.hypot(*(footprints[0][:, :2] - footprints[1][:, :2]).T)
    near = np.flatnonzero((apart < reach[0] + reach[1]) & (area[0] > 0) & (area[1] > 0) & placed(a) & placed(b))
    if len(near):
        inter[near] = intersection_area(*(torch.from_numpy(f[near]) for f in footprints)).numpy()
    return inter, area[0], area[1]


def box(a: Objects, b: Objects) -> tuple[Floats, Floats, Floats]:
    """Volumes in cubic metres. The place is the bottom of a box, and y points down."""
    inter, *areas = bev(a, b)
    (bottom_a, height_a), (bottom_b, height_b) = ((o.column("y"), o.column("height")) for o in (a, b))
    shared = np.minimum(bottom_a, bottom_b) - np.maximum(bottom_a - height_a, bottom_b - height_b)
    return inter * np.maximum(shared, 0.0), areas[0] * height_a, areas[1] * height_b


def _footprint(objects: Objects) -> Floats:
    """(N, 5) x, z, length, width, yaw. Turning about an axis that points down is clockwise in (x, z)."""
    x, z, length, width, turn = (objects.column(name) for name in ("x", "z", "length", "width", "rotation_y"))
    return np.stack([x, z, length, width, -turn], axis=1)


def overlapping(
    measure: Measure, a: Objects, b: Objects, threshold: float | Floats, *, of_a: bool = False
) -> tuple[Ints, Ints, Floats]:
    """Pairs of one frame that overlap by more than a threshold.

    Args:
        measure: `image`, `bev` or `box`.
        a: objects.
        b: objects.
        threshold: of all pairs, or (N,) of each of `a`.
        of_a: the overlap is intersection over the size of `a`, not over the union.

    Returns:
        Indices (P,) into `a` and `b`, by a, then b, and the overlaps (P,).
    """
    frames = int(max(a.frame.max(initial=-1), b.frame.max(initial=-1))) + 1
    i, j = Groups(b.frame, frames).pairs(a.frame)
    inter, size_a, size_b = measure(a.select(i), b.select(j))
    whole = size_a if of_a else size_a + size_b - inter
    overlap = np.divide(inter, whole, out=np.zeros_like(inter), where=(inter > 0) & (whole > 0))
    keep = np.flatnonzero(overlap > (threshold[i] if isinstance(threshold, np.ndarray) else threshold))
    return i[keep], j[keep], overlap[keep]
