"""Planar motion at constant speed and turn rate, and roads as circular arcs: everything that moves is one of these."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def advance(pose: ArrayLike, distance: ArrayLike, turn: ArrayLike) -> Array:
    """Poses (..., 3) = (x, y, yaw) after driving `distance` m along an arc that turns by `turn` rad."""
    p, turn = np.asarray(pose, dtype=np.float64), np.asarray(turn, dtype=np.float64)
    chord = np.asarray(distance, dtype=np.float64) * np.sinc(turn / (2 * np.pi))  # np.sinc(x) = sin(pi x) / (pi x)
    heading = p[..., 2] + turn / 2
    return np.stack(
        [p[..., 0] + chord * np.cos(heading), p[..., 1] + chord * np.sin(heading), p[..., 2] + turn], axis=-1
    )


@dataclass(frozen=True, slots=True)
class Motion:
    """Pose at time zero, speed (m/s, along the heading) and turn rate (rad/s)."""

    x: float
    y: float
    yaw: float
    speed: float = 0.0
    turn_rate: float = 0.0

    def pose(self, t_s: ArrayLike) -> Array:
        """Pose (..., 3) = (x, y, yaw) at times (...)."""
        if isinstance(t_s, float):  # many times per keyframe, so without the overhead of arrays
            turn = self.turn_rate * t_s
            half = turn / 2  # may be zero where the turn is not
            chord = self.speed * t_s * (math.sin(half) / half if half else 1.0)
            heading = self.yaw + half
            return np.array([self.x + chord * math.cos(heading), self.y + chord * math.sin(heading), self.yaw + turn])
        t = np.asarray(t_s, dtype=np.float64)
        start = np.broadcast_to(np.array([self.x, self.y, self.yaw]), (*t.shape, 3))
        return advance(start, self.speed * t, self.turn_rate * t)


@dataclass(frozen=True, slots=True)
class Road:
    """A road axis of constant curvature (1/m, positive bends left); `s` runs along it and `n` to its left (m)."""

    x: float
    y: float
    yaw: float
    curvature: float = 0.0

    def to_world(self, s: ArrayLike, n: ArrayLike) -> Array:
        """Poses (..., 3) on the road, heading along it."""
        s, n = np.broadcast_arrays(np.asarray(s, dtype=np.float64), np.asarray(n, dtype=np.float64))
        start = np.broadcast_to(np.array([self.x, self.y, self.yaw]), (*s.shape, 3))
        out = advance(start, s, s * self.curvature)
        out[..., 0] -= n * np.sin(out[..., 2])
        out[..., 1] += n * np.cos(out[..., 2])
        return out

    def to_road(self, x: NDArray[np.floating], y: NDArray[np.floating]) -> tuple[NDArray[np.floating], ...]:
        """Road coordinates (s, n) of world points, in the precision of the input."""
        cos, sin = float(np.cos(self.yaw)), float(np.sin(self.yaw))
        dx, dy = x - self.x, y - self.y
        along, left = cos * dx + sin * dy, cos * dy - sin * dx
        if abs(self.curvature) < 1e-6:
            return along, left
        radius = 1.0 / self.curvature
        # Angle at the centre of the arc, measured so that it grows with s for either bend.
        angle = np.arctan2(along, (radius - left) * np.sign(radius))
        return angle * abs(radius), radius - np.sign(radius) * np.hypot(along, radius - left)

    def follow(self, s: float, n: float, speed: float, forward: bool) -> Motion:
        """Motion of something that keeps its lateral offset `n`."""
        x, y, yaw = self.to_world(s, n)
        rate = speed * self.curvature / (1.0 - self.curvature * n)
        if not forward:
            yaw, rate = yaw + np.pi, -rate
        return Motion(float(x), float(y), float(yaw), speed, float(rate))
