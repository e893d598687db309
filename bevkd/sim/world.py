"""The world of one scene at any time: streets, weather, objects in motion, and their boxes in the ego frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bevkd.sim.motion import Motion, Road, advance
from bevkd.sim.raycast import Boxes
from bevkd.sim.shapes import Part

Array = NDArray[np.float64]

# Solid parts end this far inside the annotated box, so that range noise leaves most returns within it, as in the real
# data, whose boxes are drawn generously.
_SKIN_M = 0.03


@dataclass(frozen=True, slots=True)
class Conditions:
    """Weather, lighting and exposure of a scene; `sun` is a unit vector towards the light (world frame)."""

    night: bool
    rain: bool
    brightness: float
    noise: float
    sun: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Street:
    """Cross-section of a road: lanes per direction, then parking strips, pavement, and on some sides an open plaza.

    `parking` and `plaza` are (right side n < 0, left side n > 0); `drive_on_left` mirrors the traffic.
    """

    axis: Road
    lanes: int
    lane_width: float
    drive_on_left: bool
    parking: tuple[bool, bool] = (False, False)
    pavement: float = 3.0
    plaza: tuple[bool, bool] = (False, False)

    @property
    def half_width(self) -> float:
        """From the axis to the edge of the outer lane (m)."""
        return self.lanes * self.lane_width

    def kerb(self, left: bool) -> float:
        """From the axis to the kerb (m)."""
        return self.half_width + (2.5 if self.parking[int(left)] else 0.3)

    def lane_offset(self, lane: int, forward: bool) -> float:
        """Lateral coordinate of a lane's middle; lane 0 is the inner one."""
        n = (lane + 0.5) * self.lane_width
        return n if forward == self.drive_on_left else -n


@dataclass(frozen=True, slots=True)
class SceneObject:
    """Something with a box.

    Attributes:
        kind: detection class or distractor name.
        annotated: whether it belongs to a class (distractors do not).
        size: (l, w, h) in m.
        category, attribute: nuScenes names; the attribute is "" where the class has none.
        rcs: radar cross-section (dBsm); reflectivity: LiDAR intensity (0-255) at normal incidence.
    """

    kind: str
    annotated: bool
    size: tuple[float, float, float]
    motion: Motion
    parts: tuple[Part, ...]
    category: str
    attribute: str
    rcs: float
    reflectivity: float


@dataclass(frozen=True, slots=True)
class Paint:
    """Per part (N, ...): pattern and the two colours."""

    pattern: NDArray[np.int32]
    a: NDArray[np.float32]
    b: NDArray[np.float32]


class World:
    """Everything in a scene; times are seconds from the middle of the scene.

    Attributes:
        sizes: (l, w, h) per object (M, 3); annotated, reflectivity, rcs: per object (M,).
        owner: object index of every part (N,).
        paint: pattern and colours of every part.
    """

    def __init__(
        self,
        main: Street,
        cross: Street | None,
        conditions: Conditions,
        ego: Motion,
        objects: list[SceneObject],
    ) -> None:
        self.main, self.cross, self.conditions, self.ego, self.objects = main, cross, conditions, ego, objects
        motions = [o.motion for o in objects]
        self._start = np.array([[m.x, m.y, m.yaw] for m in motions]).reshape(-1, 3)
        self._speed = np.array([m.speed for m in motions])
        self._rate = np.array([m.turn_rate for m in motions])
        self.sizes = np.array([o.size for o in objects]).reshape(-1, 3)
        self.annotated = np.array([o.annotated for o in objects], dtype=bool)
        self.reflectivity = np.array([o.reflectivity for o in objects], dtype=np.float32)
        self.rcs = np.array([o.rcs for o in objects])
        parts = [(i, p) for i, o in enumerate(objects) for p in o.parts]
        self.owner = np.array([i for i, _ in parts], dtype=np.int32)
        self.paint = Paint(
            np.array([int(p.pattern) for _, p in parts], dtype=np.int32),
            np.array([p.a for _, p in parts], dtype=np.float32).reshape(-1, 3),
            np.array([p.b for _, p in parts], dtype=np.float32).reshape(-1, 3),
        )
        bounds = np.array([(p.x, p.y, p.z) for _, p in parts]).reshape(-1, 3, 2)
        size = self.sizes[self.owner]
        inner = size - np.array([2 * _SKIN_M, 2 * _SKIN_M, _SKIN_M])
        low, high = bounds[..., 0] * inner, bounds[..., 1] * inner
        self._offset, self._half = (low + high) / 2, np.maximum((high - low) / 2, 0.01)

    def poses(self, t_s: float) -> Array:
        """Pose (M, 3) = (x, y, yaw) of every object."""
        return advance(self._start, self._speed * t_s, self._rate * t_s)

    def velocities(self, t_s: float) -> Array:
        """Velocity (M, 2) of every object in the world frame (m/s)."""
        yaw = self._start[:, 2] + self._rate * t_s
        return np.stack([np.cos(yaw), np.sin(yaw)], axis=-1) * self._speed[:, None]

    def in_ego(self, t_s: float, ego: Array) -> Array:
        """Pose (M, 3) of every object in the frame of an ego pose (x, y, yaw)."""
        poses = self.poses(t_s)
        cos, sin = np.cos(ego[2]), np.sin(ego[2])
        dx, dy = poses[:, 0] - ego[0], poses[:, 1] - ego[1]
        return np.stack([cos * dx + sin * dy, cos * dy - sin * dx, poses[:, 2] - ego[2]], axis=-1)

    def boxes(self, t_s: float, ego: Array) -> Boxes:
        """All parts in the frame of an ego pose (x, y, yaw)."""
        x, y, yaw = self.in_ego(t_s, ego).T
        part_yaw = yaw[self.owner]
        c, s = np.cos(part_yaw), np.sin(part_yaw)
        ox, oy, oz = self._offset.T
        centre = np.stack([x[self.owner] + c * ox - s * oy, y[self.owner] + s * ox + c * oy, oz], axis=-1)
        return Boxes(centre, self._half, part_yaw)
