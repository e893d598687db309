"""One ray/box test for every sensor.

A sensor is an origin and a grid of unit ray directions in the ego frame; the world is a set of boxes in the same frame.
For each box only the window of rays that can meet it is tested (`windows` of the grid), all (box, ray) pairs at once,
followed by a z-buffer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I32 = NDArray[np.int32]

# Pairs tested at once; bounds the memory at full image size.
_PAIRS_AT_ONCE = 1 << 20

_SIGNS = np.array([[i, j, k] for i in (-1, 1) for j in (-1, 1) for k in (-1, 1)], dtype=np.float64)
_EDGES = np.array([(a, b) for a in range(8) for b in range(a) if np.abs(_SIGNS[a] - _SIGNS[b]).sum() == 2])


@dataclass(frozen=True, slots=True)
class Boxes:
    """Upright boxes in the ego frame: centre (N, 3), half size (N, 3) in m, yaw (N,) in rad."""

    centre: F64
    half: F64
    yaw: F64

    def corners(self) -> F64:
        """Corners (N, 8, 3)."""
        local = _SIGNS[None] * self.half[:, None]
        cos, sin = np.cos(self.yaw)[:, None], np.sin(self.yaw)[:, None]
        x = cos * local[..., 0] - sin * local[..., 1]
        y = sin * local[..., 0] + cos * local[..., 1]
        return np.stack([x, y, local[..., 2]], axis=-1) + self.centre[:, None]


@dataclass(frozen=True, slots=True)
class Windows:
    """Which rays of a grid may meet which box: box index, first row, rows, first column, columns; columns may wrap."""

    box: I32
    row: I32
    rows: I32
    column: I32
    columns: I32


class RayGrid(Protocol):
    """Rays of one scan or image as seen by `cast`."""

    @property
    def origin(self) -> F64:
        """Position (3,) in the ego frame."""
        ...

    @property
    def directions(self) -> F32:
        """Unit directions (3, H * W) in the ego frame, row-major."""
        ...

    @property
    def height(self) -> int:
        """Number of rows H."""
        ...

    @property
    def width(self) -> int:
        """Number of columns W."""
        ...

    def windows(self, boxes: Boxes) -> Windows:
        """The windows of rays that may meet each box."""
        ...


@dataclass(frozen=True, slots=True)
class PinholeGrid:
    """Rays of a camera; the centre of pixel (row r, column c) lies at image coordinates (c + 0.5, r + 0.5)."""

    origin: F64
    camera_from_ego: F64  # (3, 3)
    intrinsics: F64
    height: int
    width: int
    directions: F32
    near_m: float = 0.2

    @classmethod
    def build(cls, origin: F64, ego_from_camera: F64, intrinsics: F64, height: int, width: int) -> PinholeGrid:
        """Rays of an ideal pinhole with rotation `ego_from_camera` (3, 3)."""
        u = (np.arange(width) + 0.5 - intrinsics[0, 2]) / intrinsics[0, 0]
        v = (np.arange(height) + 0.5 - intrinsics[1, 2]) / intrinsics[1, 1]
        vv, uu = np.meshgrid(v, u, indexing="ij")
        rays = ego_from_camera @ np.stack([uu.ravel(), vv.ravel(), np.ones(uu.size)])
        return cls(origin, ego_from_camera.T, intrinsics, height, width, _unit(rays))

    def windows(self, boxes: Boxes) -> Windows:
        """Bounding rectangles of the projected boxes, their edges cut at the near plane."""
        p = (boxes.corners() - self.origin) @ self.camera_from_ego.T
        a, b = p[:, _EDGES[:, 0]], p[:, _EDGES[:, 1]]
        crossing = (a[..., 2] > self.near_m) != (b[..., 2] > self.near_m)
        step = np.where(crossing, b[..., 2] - a[..., 2], 1.0)
        cut = a + ((self.near_m - a[..., 2]) / step)[..., None] * (b - a)
        points = np.concatenate([p, cut], axis=1)
        valid = np.concatenate([p[..., 2] > self.near_m - 1e-9, crossing], axis=1)
        z = np.where(valid, points[..., 2], 1.0)
        u = self.intrinsics[0, 0] * points[..., 0] / z + self.intrinsics[0, 2]
        v = self.intrinsics[1, 1] * points[..., 1] / z + self.intrinsics[1, 2]
        low_u, high_u = _bounds(u, valid, self.width)
        low_v, high_v = _bounds(v, valid, self.height)
        return _windows(low_v, high_v - low_v, low_u, high_u - low_u)


@dataclass(frozen=True, slots=True)
class SpinGrid:
    """Rays of a spinning sensor: rows are rings, rising; columns are azimuths from `phase`, counter-clockwise."""

    origin: F64
    sensor_from_ego: F64  # (3, 3)
    elevations: F64  # (H,) rad, rising
    phase: float
    width: int
    range_m: float
    directions: F32

    @property
    def height(self) -> int:
        """Number of rings."""
        return len(self.elevations)

    @classmethod
    def build(
        cls, origin: F64, ego_from_sensor: F64, elevations: F64, width: int, phase: float, range_m: float
    ) -> SpinGrid:
        """Rays at all `elevations` and at `width` azimuths over the full circle."""
        azimuth = phase + np.arange(width) * (2 * np.pi / width)
        flat = np.cos(elevations)[:, None]
        rays = np.stack(
            [
                (flat * np.cos(azimuth)).ravel(),
                (flat * np.sin(azimuth)).ravel(),
                np.repeat(np.sin(elevations), width),
            ]
        )
        return cls(origin, ego_from_sensor.T, elevations, phase, width, range_m, _unit(ego_from_sensor @ rays))

    def windows(self, boxes: Boxes) -> Windows:
        """Azimuth and elevation windows; a box around the sensor's axis gets the full circle."""
        centre = (boxes.centre - self.origin) @ self.sensor_from_ego.T
        p = (boxes.corners() - self.origin) @ self.sensor_from_ego.T
        middle = np.arctan2(centre[:, 1], centre[:, 0])
        spread = np.arctan2(p[..., 1], p[..., 0]) - middle[:, None]
        spread -= 2 * np.pi * np.round(spread / (2 * np.pi))
        low, high = spread.min(axis=1), spread.max(axis=1)
        # Distance to the footprint, which bounds the elevation better than the corners of a long wall do.
        cos, sin = np.cos(boxes.yaw), np.sin(boxes.yaw)
        ox, oy = (self.origin[0] - boxes.centre[:, 0]), (self.origin[1] - boxes.centre[:, 1])
        outside_x = np.maximum(np.abs(cos * ox + sin * oy) - boxes.half[:, 0], 0.0)
        outside_y = np.maximum(np.abs(cos * oy - sin * ox) - boxes.half[:, 1], 0.0)
        nearest = np.hypot(outside_x, outside_y)
        around = (nearest < 0.05) | (high - low > np.pi)
        nearest = np.maximum(nearest, 0.05)
        farthest = np.hypot(p[..., 0], p[..., 1]).max(axis=1)
        top, bottom = p[..., 2].max(axis=1), p[..., 2].min(axis=1)
        up = np.arctan2(top, np.where(top > 0, nearest, farthest))
        down = np.arctan2(bottom, np.where(bottom > 0, farthest, nearest))

        step = 2 * np.pi / self.width
        column = np.where(around, 0, np.floor((middle + low - self.phase) / step))
        columns = np.where(around, self.width, np.ceil((high - low) / step) + 2)
        tilt = 0.02  # allowance for the sensor not being exactly upright
        row = np.searchsorted(self.elevations, down - tilt)
        rows = np.searchsorted(self.elevations, up + tilt, side="right") - row
        rows = np.where(nearest > self.range_m, 0, rows)
        return _windows(row, rows, column % self.width, np.minimum(columns, self.width))


def _unit(rays: F64) -> F32:
    rays = rays / np.linalg.norm(rays, axis=0)
    rays[np.abs(rays) < 1e-7] = 1e-7  # the slab test divides by them
    return np.ascontiguousarray(rays, dtype=np.float32)


def _bounds(values: F64, valid: NDArray[np.bool_], size: int) -> tuple[F64, F64]:
    low = np.floor(np.where(valid, values, np.inf).min(axis=1) - 0.5)
    high = np.ceil(np.where(valid, values, -np.inf).max(axis=1) + 0.5)
    return np.clip(low, 0, size), np.clip(high, 0, size)


def _windows(row: NDArray, rows: NDArray, column: NDArray, columns: NDArray) -> Windows:
    box = np.flatnonzero((rows > 0) & (columns > 0))
    return Windows(
        *(
            a[box].astype(np.int32) if a is not None else box.astype(np.int32)
            for a in (None, row, rows, column, columns)
        )
    )


@dataclass(frozen=True, slots=True)
class Hits:
    """Nearest hit per ray: distance (R,) in m (inf for none), box index (R,) (-1 for none).

    `alone` counts, per owner, the rays that would meet it if nothing else were there; empty unless asked for.
    """

    distance: F32
    box: I32
    alone: NDArray[np.int64]


def cast(grid: RayGrid, boxes: Boxes, owner: I32 | None = None, owners: int = 0) -> Hits:
    """First box met by every ray of `grid`.

    Args:
        owner: object index (N,) of every box (-1: none).
        owners: number of objects; above 0, the rays that would meet each object if it were alone are counted, too.
    """
    total = grid.height * grid.width
    distance = np.full(total, np.inf, dtype=np.float32)
    winner = np.full(total, -1, dtype=np.int32)
    mask = np.zeros((owners, total), dtype=bool) if owners else None
    w = grid.windows(boxes)
    pairs = np.cumsum(w.rows.astype(np.int64) * w.columns)
    parameters = _slab_parameters(grid.origin, boxes)
    begin = 0
    while begin < len(w.box):
        done = pairs[begin - 1] if begin else 0
        end = max(begin + 1, int(np.searchsorted(pairs, done + _PAIRS_AT_ONCE, side="right")))
        part = Windows(*(a[begin:end] for a in (w.box, w.row, w.rows, w.column, w.columns)))
        box, ray = _expand(part, grid.width)
        t = _slab(parameters, grid.directions, box, ray)
        hit = np.flatnonzero(t < np.inf)
        t, box, ray = t[hit], box[hit], ray[hit]
        np.minimum.at(distance, ray, t)
        first = t == distance[ray]
        winner[ray[first]] = box[first]
        if mask is not None and owner is not None:
            who = owner[box]
            mask[who[who >= 0], ray[who >= 0]] = True
        begin = end
    alone = mask.sum(axis=1) if mask is not None else np.zeros(0, dtype=np.int64)
    return Hits(distance, winner, alone)


def _expand(w: Windows, width: int) -> tuple[I32, I32]:
    """All (box, ray) pairs of the windows."""
    count = w.rows * w.columns
    start = np.cumsum(count) - count
    which = np.repeat(np.arange(len(count), dtype=np.int32), count)
    offset = np.arange(len(which), dtype=np.int32) - start.astype(np.int32)[which]
    columns = w.columns[which]
    row = offset // columns
    column = w.column[which] + offset - row * columns
    column[column >= width] -= width
    return w.box[which], (w.row[which] + row) * width + column


def _slab_parameters(origin: F64, boxes: Boxes) -> F32:
    """Per box (8, N): cos, sin, the ray origin in the box frame, half size."""
    cos, sin = np.cos(boxes.yaw), np.sin(boxes.yaw)
    d = origin - boxes.centre
    rows = [cos, sin, cos * d[:, 0] + sin * d[:, 1], cos * d[:, 1] - sin * d[:, 0], d[:, 2], *boxes.half.T]
    return np.ascontiguousarray(rows, dtype=np.float32)


def _slab(parameters: F32, directions: F32, box: I32, ray: I32) -> F32:
    """Distance (P,) at which each ray enters its box; inf when it misses or starts inside."""
    cos, sin, ox, oy, oz, hx, hy, hz = parameters.take(box, axis=1)
    dx, dy, dz = directions.take(ray, axis=1)
    lx = cos * dx + sin * dy
    ly = cos * dy - sin * dx
    lx[np.abs(lx) < 1e-7] = 1e-7
    ly[np.abs(ly) < 1e-7] = 1e-7
    near, far = np.full(len(box), -np.inf, dtype=np.float32), np.full(len(box), np.inf, dtype=np.float32)
    for o, d, h in ((ox, lx, hx), (oy, ly, hy), (oz, dz, hz)):
        inverse = np.reciprocal(d)
        middle = -o * inverse
        reach = h * np.abs(inverse)
        np.maximum(near, middle - reach, out=near)
        np.minimum(far, middle + reach, out=far)
    return np.where((near <= far) & (near > 0), near, np.float32(np.inf))
