"""Virtual points of one sweep: pixels of instance masks, each at the depth of the nearest LiDAR point in its mask."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bevkd.classes import CLASSES
from bevkd.data.points import multiply
from bevkd.geometry import invert
from bevkd.instance_masks import Instance

SEMANTIC = len(CLASSES) + 1  # what is known of a painted or virtual point: a class, one-hot, and the instance's score
_BLOCK = 1 << 22  # distances in memory at once
_NEAREST_M = 0.01  # what lies at the lens is in no image


@dataclass(frozen=True)
class View:
    """An image beside a sweep.

    Attributes:
        sensor_from_camera: (4, 4) camera frame to the sweep's sensor frame, each at its own time.
        intrinsics: (3, 3).
        size: height and width (pixels).
        instances: what was found in it.
        rng: chooses pixels.
    """

    sensor_from_camera: NDArray[np.float64]
    intrinsics: NDArray[np.float64]
    size: tuple[int, int]
    instances: Iterable[Instance]
    rng: np.random.Generator


@dataclass(frozen=True)
class VirtualSweep:
    """What masks add to a sweep, in its sensor frame.

    Attributes:
        virtual: (V, 3 + 11) float32: x, y, z (m), ten classes, score.
        painted: (R, 4 + 11) float32: x, y, z, intensity of the LiDAR points in masks, and the same eleven.
        index: (R,) int64, which points of the sweep these are.
    """

    virtual: NDArray[np.float32]
    painted: NDArray[np.float32]
    index: NDArray[np.int64]

    @classmethod
    def empty(cls) -> VirtualSweep:
        """No mask, or no LiDAR point in any."""
        virtual, painted = (np.zeros((0, columns + SEMANTIC), np.float32) for columns in (3, 4))
        return cls(virtual, painted, np.zeros(0, np.int64))


def virtual_sweep(points: NDArray[np.float32], views: Sequence[View], per_instance: int) -> VirtualSweep:
    """Points of a sweep that lie in masks, and virtual ones.

    A LiDAR point belongs to the first instance of an image whose mask holds its pixel. Of each instance with such a
    point `per_instance` pixels of its mask (all, where it has fewer) are drawn without repetition; each takes the depth
    of the instance's point whose pixel is nearest, the first of equals, and is unprojected at the pixel's middle. An
    instance without a point has no virtual ones. A point that several images show as objects has the larger of each of
    its eleven values.

    Args:
        points: (P, 4+) x, y, z (sensor frame, m), intensity.
        views: images taken about when the sweep was.
        per_instance: pixels of each mask (the paper: 50).
    """
    semantic = np.zeros((len(points), SEMANTIC), dtype=np.float32)
    made: list[NDArray[np.float32]] = []
    for view in views:
        made += _of_view(points, view, per_instance, semantic)
    index = np.flatnonzero(semantic[:, :-1].any(axis=1))  # the class: a score may be 0
    painted = np.concatenate([points[index, :4], semantic[index]], axis=1)
    virtual = np.concatenate(made) if made else VirtualSweep.empty().virtual
    return VirtualSweep(virtual, painted.astype(np.float32), index)


def _of_view(
    points: NDArray[np.float32], view: View, per_instance: int, semantic: NDArray[np.float32]
) -> list[NDArray[np.float32]]:
    """Virtual points of each instance of an image; raises the rows of `semantic` of the points in them."""
    camera_from_sensor = invert(view.sensor_from_camera)
    local = multiply(points.astype(np.float64), camera_from_sensor[:3, :3].T) + camera_from_sensor[:3, 3]
    seen = np.flatnonzero(local[:, 2] > _NEAREST_M)
    depth = local[seen, 2]
    pixel = np.floor(multiply(local[seen], view.intrinsics.T)[:, :2] / depth[:, None])
    inside = ((pixel >= 0) & (pixel < view.size[::-1])).all(axis=1)
    seen, depth, pixel = seen[inside], depth[inside], pixel[inside].astype(np.int64)
    free = np.ones(len(seen), dtype=bool)
    out: list[NDArray[np.float32]] = []
    for instance in view.instances:
        mine = np.flatnonzero(free & instance.mask[pixel[:, 1], pixel[:, 0]])
        free[mine] = False
        if len(mine) == 0:
            continue
        values = np.zeros(SEMANTIC, dtype=np.float32)
        values[instance.label], values[-1] = 1.0, instance.score
        semantic[seen[mine]] = np.maximum(semantic[seen[mine]], values)
        chosen = _draw(instance.mask, per_instance, view.rng)
        at = depth[mine][_nearest(chosen, pixel[mine])]
        place = unproject(chosen + 0.5, at, view.intrinsics, view.sensor_from_camera)
        out.append(np.concatenate([place.astype(np.float32), np.tile(values, (len(place), 1))], axis=1))
    return out


def _draw(mask: NDArray[np.bool_], count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Some pixels (N, 2), column and row, of a mask, none twice, from top to bottom."""
    flat = np.flatnonzero(mask)
    if len(flat) > count:
        flat = np.sort(rng.choice(flat, count, replace=False))
    return np.stack([flat % mask.shape[1], flat // mask.shape[1]], axis=1)


def _nearest(wanted: NDArray[np.int64], known: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each pixel (N, 2) which of others (M, 2) is nearest; the first of equals."""
    rows = max(1, _BLOCK // len(known))
    parts = [
        ((wanted[i : i + rows, None] - known[None]) ** 2).sum(axis=2).argmin(axis=1)
        for i in range(0, len(wanted), rows)
    ]
    return np.concatenate(parts)


def unproject(
    pixel: NDArray[Any],
    depth: NDArray[np.float64],
    intrinsics: NDArray[np.float64],
    target_from_camera: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Places (N, 3) in another frame of image coordinates (N, 2) at depths (N,) along the optical axis (m)."""
    rays = np.concatenate([pixel, np.ones((len(pixel), 1))], axis=1) @ np.linalg.inv(intrinsics).T
    local = rays / rays[:, 2:] * depth[:, None]
    return np.asarray(local @ target_from_camera[:3, :3].T + target_from_camera[:3, 3])
