"""Draws the world of a scene: streets, weather, and objects that do not overlap at any time of the scene."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bevkd.sim.config import SimConfig, WorldConfig
from bevkd.sim.motion import Motion, Road
from bevkd.sim.shapes import BUILDERS, RCS, sample_size
from bevkd.sim.world import Conditions, SceneObject, Street, World

Rng = np.random.Generator
Array = NDArray[np.float64]

_CATEGORY = {
    "car": "vehicle.car",
    "truck": "vehicle.truck",
    "construction_vehicle": "vehicle.construction",
    "bus": "vehicle.bus.rigid",
    "trailer": "vehicle.trailer",
    "barrier": "movable_object.barrier",
    "motorcycle": "vehicle.motorcycle",
    "bicycle": "vehicle.bicycle",
    "pedestrian": "human.pedestrian.adult",
    "traffic_cone": "movable_object.trafficcone",
}
_VEHICLES = ("bus", "trailer", "truck", "construction_vehicle", "car")
_CYCLES = ("motorcycle", "bicycle")
_CIRCLES = 5  # a footprint is covered by this many circles along its longer side
_EGO_SIZE = (4.6, 1.9, 1.8)
_ATTEMPTS = 12


class Footprints:
    """Overlap test of moving footprints at a few times of the scene."""

    def __init__(self, times_s: Array) -> None:
        self.times = times_s
        self._count = 0
        self._circles = np.zeros((64, len(times_s), _CIRCLES, 2))
        self._radius, self._reach = np.zeros(64), np.zeros(64)

    def _cover(self, size: tuple[float, float, float], motion: Motion, shift: float) -> tuple[Array, float, float]:
        long, short = max(size[:2]), min(size[:2])
        pose = motion.pose(self.times)
        along = pose[:, 2] + (0.0 if size[0] >= size[1] else np.pi / 2)
        step = (np.arange(_CIRCLES) - (_CIRCLES - 1) / 2) * long / _CIRCLES
        direction = np.stack([np.cos(along), np.sin(along)], axis=-1)
        heading = np.stack([np.cos(pose[:, 2]), np.sin(pose[:, 2])], axis=-1)
        centres = pose[:, None, :2] + direction[:, None] * step[None, :, None] + shift * heading[:, None]
        radius = float(np.hypot(long / _CIRCLES / 2, short / 2))
        return centres, radius, radius + long / 2

    def try_add(
        self, size: tuple[float, float, float], motion: Motion, gap_m: float = 0.15, shift: float = 0.0
    ) -> bool:
        """Add a footprint, unless it comes closer than `gap_m` to another one at any time. `shift` moves it forward."""
        circles, radius, reach = self._cover(size, motion, shift)
        n, middle = self._count, _CIRCLES // 2
        apart = self._circles[:n, :, middle] - circles[None, :, middle]
        limit = (self._reach[:n] + reach + gap_m) ** 2
        for i in np.flatnonzero((np.einsum("ntk,ntk->nt", apart, apart) < limit[:, None]).any(axis=1)):
            d2 = ((self._circles[i][:, :, None] - circles[:, None]) ** 2).sum(axis=-1)
            if d2.min() < (self._radius[i] + radius + gap_m) ** 2:
                return False
        if n == len(self._radius):
            self._circles = np.concatenate([self._circles, np.zeros_like(self._circles)])
            self._radius, self._reach = np.tile(self._radius, 2), np.tile(self._reach, 2)
        self._circles[n], self._radius[n], self._reach[n] = circles, radius, reach
        self._count += 1
        return True


class WorldBuilder:
    """Draws one scene around `origin` (world x, y); the ego passes near it in the middle of the scene."""

    def __init__(
        self, config: SimConfig, rng: Rng, origin: tuple[float, float], drive_on_left: bool, conditions: Conditions
    ) -> None:
        self.rng, self.conditions, self.settings = rng, conditions, config.world
        splits = config.splits
        half = (splits.keyframes_per_scene - 1) / 2 / splits.keyframe_hz
        times = np.linspace(-half - 0.5, half + 0.1, 9)
        self.footprints = Footprints(times)
        self.objects: list[SceneObject] = []
        self.main, self.cross = self._streets(origin, drive_on_left)
        self.ego = self._ego()
        # The ego origin is the rear axle, so that the body lies ahead of it.
        self.footprints.try_add(_EGO_SIZE, self.ego, shift=1.4)
        self.reach = self.settings.reach_m
        self.lane_speed: dict[tuple[bool, int, bool], float] = {}

    def build(self) -> World:
        """The complete world."""
        counts = {cls: int(self.rng.poisson(mean)) for cls, mean in self.settings.counts}
        self._buildings()
        for cls in _VEHICLES:
            for _ in range(counts[cls]):
                self._attempt(cls, self._vehicle)
        for cls in _CYCLES:
            for _ in range(counts[cls]):
                self._attempt(cls, self._cycle)
        for cls in ("barrier", "traffic_cone"):
            self._rows(cls, counts[cls])
        for _ in range(counts["pedestrian"]):
            self._attempt("pedestrian", self._pedestrian)
        self._clutter(self.settings)
        return World(self.main, self.cross, self.conditions, self.ego, self.objects)

    # Streets and ego

    def _streets(self, origin: tuple[float, float], drive_on_left: bool) -> tuple[Street, Street | None]:
        rng = self.rng
        curvature = 0.0 if rng.random() < 0.6 else float(rng.choice([-1, 1]) / rng.uniform(60, 200))
        axis = Road(origin[0], origin[1], float(rng.uniform(-np.pi, np.pi)), curvature)
        parking, plaza = rng.random(2) < 0.55, rng.random(2) < 0.5
        main = Street(
            axis,
            int(rng.integers(1, 4)),
            float(rng.uniform(3.2, 3.7)),
            drive_on_left,
            (bool(parking[0]), bool(parking[1])),
            float(rng.uniform(2.0, 4.0)),
            (bool(plaza[0]), bool(plaza[1])),
        )
        if rng.random() > 0.45:
            return main, None
        x, y, yaw = axis.to_world(rng.uniform(-22, 22), 0.0)
        turn = np.pi / 2 + rng.uniform(-0.3, 0.3)
        cross_axis = Road(float(x), float(y), float(yaw + turn))
        return main, Street(cross_axis, int(rng.integers(1, 3)), 3.3, drive_on_left, pavement=2.5)

    def _ego(self) -> Motion:
        """The ego follows a lane, or turns across the road, or stands at any angle (leaving a parking lot)."""
        rng, main = self.rng, self.main
        lane = int(rng.integers(main.lanes))
        n = main.lane_offset(lane, True) + rng.uniform(-0.3, 0.3)
        kind = rng.random()
        if kind < 0.65:
            speed = 0.0 if rng.random() < 0.2 else float(rng.uniform(2.0, 8.0))
            return main.axis.follow(0.0, n, speed, True)
        x, y, yaw = main.axis.to_world(0.0, n)
        if kind < 0.87:
            speed = float(rng.uniform(2.0, 4.5))
            return Motion(float(x), float(y), float(yaw + rng.uniform(-0.5, 0.5)), speed, float(rng.uniform(-0.3, 0.3)))
        return Motion(float(x), float(y), float(yaw + rng.uniform(-np.pi, np.pi)), float(rng.uniform(0.0, 1.0)))

    # Placement

    def _near_ego(self, x: float, y: float) -> bool:
        c, s = np.cos(self.ego.yaw), np.sin(self.ego.yaw)
        dx, dy = x - self.ego.x, y - self.ego.y
        return max(abs(c * dx + s * dy), abs(c * dy - s * dx)) < self.reach + 1.5

    def _on_cross(self, x: float, y: float, margin: float = 1.0) -> bool:
        if self.cross is None:
            return False
        _, n = self.cross.axis.to_road(np.array(x), np.array(y))
        return bool(abs(n) < self.cross.half_width + margin)

    def _on_main(self, x: float, y: float, margin: float = 0.5) -> bool:
        _, n = self.main.axis.to_road(np.array(x), np.array(y))
        return bool(abs(n) < self.main.kerb(bool(n > 0)) + margin)

    def _attempt(self, cls: str, propose: object) -> bool:
        rider = bool(self.rng.random() < 0.6)
        size = sample_size(cls, self.rng, rider)
        for _ in range(_ATTEMPTS):
            motion, attribute = propose(cls, size, rider)  # type: ignore[operator]
            if self._near_ego(motion.x, motion.y) and self.footprints.try_add(size, motion):
                self._add(cls, size, motion, attribute, rider)
                return True
        return False

    def _add(
        self,
        kind: str,
        size: tuple[float, float, float],
        motion: Motion,
        attribute: str = "",
        rider: bool = False,
    ) -> None:
        rng, category = self.rng, _CATEGORY.get(kind, "")
        if kind == "pedestrian" and rng.random() < 0.1:
            category = "human.pedestrian.construction_worker"
        self.objects.append(
            SceneObject(
                kind,
                kind in _CATEGORY,
                size,
                motion,
                tuple(BUILDERS[kind](rng, rider)),
                category,
                attribute,
                RCS[kind] + float(rng.normal(0, 3)),
                float(rng.gamma(4.0, 9.0) + 4.0),
            )
        )

    def _vehicle(self, cls: str, size: tuple[float, float, float], rider: bool) -> tuple[Motion, str]:
        rng = self.rng
        on_lane = {"car": 0.6, "truck": 0.6, "bus": 0.75, "trailer": 0.4, "construction_vehicle": 0.25}[cls]
        if rng.random() < on_lane:
            if cls != "trailer" and self.cross is not None and rng.random() < 0.2:
                return self._turning()
            return self._on_lane(cls)
        return self._parked(cls, size)

    def _on_lane(self, cls: str) -> tuple[Motion, str]:
        rng = self.rng
        use_cross = self.cross is not None and rng.random() < 0.35
        street = self.cross if use_cross and self.cross is not None else self.main
        forward, lane = bool(rng.random() < 0.5), int(rng.integers(street.lanes))
        key = (use_cross, lane, forward)
        if key not in self.lane_speed:
            self.lane_speed[key] = 0.0 if rng.random() < 0.3 else float(rng.uniform(2.0, 11.0))
        speed = self.lane_speed[key]
        if speed > 0:
            speed = max(1.0, speed + float(rng.normal(0, 0.4)))
        n = street.lane_offset(lane, forward) + rng.normal(0, 0.2)
        motion = street.axis.follow(float(rng.uniform(-1, 1) * 1.3 * self.reach), float(n), speed, forward)
        return motion, "vehicle.moving" if speed > 0 else "vehicle.stopped"

    def _turning(self) -> tuple[Motion, str]:
        """Somewhere on an arc that joins the two streets."""
        rng = self.rng
        assert self.cross is not None
        speed, radius = float(rng.uniform(2.5, 5.0)), float(rng.choice([-1, 1]) * rng.uniform(7, 14))
        x, y, yaw = self.cross.axis.to_world(rng.uniform(-8, 8), rng.uniform(-3, 3))
        return Motion(float(x), float(y), float(yaw + rng.uniform(-np.pi, np.pi)), speed, speed / radius), (
            "vehicle.moving"
        )

    def _parked(self, cls: str, size: tuple[float, float, float]) -> tuple[Motion, str]:
        """In a parking strip, or parked across or along on a plaza."""
        rng, main = self.rng, self.main
        sides = [left for left in (False, True) if main.parking[int(left)]]
        plazas = [left for left in (False, True) if main.plaza[int(left)]]
        s = float(rng.uniform(-1, 1) * 1.3 * self.reach)
        long = cls in ("bus", "trailer", "construction_vehicle")
        if plazas and (not sides or long or rng.random() < 0.45):
            left = plazas[rng.integers(len(plazas))]
            n = main.kerb(left) + main.pavement + size[0] / 2 + float(rng.uniform(0.3, 12.0))
            turn = float(rng.choice([0, 0.5, 1, 1.5]) * np.pi + rng.normal(0, 0.12))
            if cls == "construction_vehicle":
                turn = float(rng.uniform(-np.pi, np.pi))
        else:
            left = sides[rng.integers(len(sides))] if sides else bool(rng.random() < 0.5)
            n = main.half_width + (1.2 if sides else -1.2) + float(rng.normal(0, 0.1))
            against = rng.random() < 0.15
            along = left == main.drive_on_left  # the direction of traffic on that side
            turn = (0.0 if along != against else np.pi) + float(rng.normal(0, 0.04))
        x, y, yaw = main.axis.to_world(s, n if left else -n)
        if self._on_cross(float(x), float(y), 1.0 + size[0] / 2):
            return Motion(1e9, 1e9, 0.0), ""  # not here: rejected as too far
        return Motion(float(x), float(y), float(yaw) + turn), "vehicle.parked"

    def _cycle(self, cls: str, size: tuple[float, float, float], rider: bool) -> tuple[Motion, str]:
        rng, main = self.rng, self.main
        if not rider:
            motion, _ = self._footway(rng.uniform(-np.pi, np.pi), 0.0)
            return motion, "cycle.without_rider"
        forward = bool(rng.random() < 0.5)
        n = main.lane_offset(main.lanes - 1, forward)
        n += np.sign(n) * (rng.uniform(0.6, 1.3) if cls == "bicycle" else rng.normal(0, 0.5))
        speed = 0.0 if rng.random() < 0.15 else float(rng.uniform(2.0, 5.0 if cls == "bicycle" else 10.0))
        s = float(rng.uniform(-1, 1) * 1.3 * self.reach)
        return main.axis.follow(s, float(n), speed, forward), "cycle.with_rider"

    def _footway(self, turn: float, speed: float) -> tuple[Motion, bool]:
        """Somewhere on a pavement or plaza, heading `turn` off the road's direction."""
        rng, main = self.rng, self.main
        left = bool(rng.random() < 0.5)
        width = main.pavement + (14.0 if main.plaza[int(left)] and rng.random() < 0.5 else 0.0)
        n = main.kerb(left) + rng.uniform(0.4, width - 0.3)
        s = float(rng.uniform(-1, 1) * 1.2 * self.reach)
        x, y, yaw = main.axis.to_world(s, n if left else -n)
        return Motion(float(x), float(y), float(yaw + turn), speed), left

    def _pedestrian(self, cls: str, size: tuple[float, float, float], rider: bool) -> tuple[Motion, str]:
        rng = self.rng
        kind, speed = rng.random(), float(rng.uniform(0.7, 1.8))
        if kind < 0.5:
            return self._footway(float(rng.choice([0, np.pi]) + rng.normal(0, 0.15)), speed)[0], "pedestrian.moving"
        if kind < 0.8:
            return self._footway(float(rng.uniform(-np.pi, np.pi)), 0.0)[0], "pedestrian.standing"
        s, n = rng.uniform(-1, 1) * self.reach, rng.uniform(-1, 1) * self.main.half_width
        x, y, yaw = self.main.axis.to_world(s, n)
        turn = float(rng.choice([-1, 1]) * np.pi / 2 + rng.normal(0, 0.2))
        return Motion(float(x), float(y), float(yaw) + turn, speed), "pedestrian.moving"

    def _rows(self, cls: str, count: int) -> None:
        """Barriers and cones stand in short rows along a lane edge or on the pavement."""
        rng = self.rng
        while count > 0:
            length = min(count, int(rng.integers(1, 5)))
            count -= length
            left = bool(rng.random() < 0.5)
            edge = self.main.half_width if rng.random() < 0.6 else self.main.kerb(left) + rng.uniform(0.5, 2.0)
            n0, drift = edge + rng.uniform(-0.6, 0.6), rng.uniform(-0.12, 0.12)
            s0 = rng.uniform(-1, 1) * self.reach
            step = rng.uniform(2.7, 3.2) if cls == "barrier" else rng.uniform(1.4, 3.0)
            facing = rng.choice([-1, 1]) * np.pi / 2
            for i in range(length):
                size = sample_size(cls, rng)
                for _ in range(4):
                    s = s0 + i * step
                    n = n0 + drift * (i * step) + rng.normal(0, 0.08)
                    x, y, yaw = self.main.axis.to_world(s, n if left else -n)
                    turn = facing + rng.normal(0, 0.06) if cls == "barrier" else rng.uniform(-np.pi, np.pi)
                    motion = Motion(float(x), float(y), float(yaw + turn))
                    if self._near_ego(motion.x, motion.y) and self.footprints.try_add(size, motion):
                        self._add(cls, size, motion)
                        break
                    s0, n0 = rng.uniform(-1, 1) * self.reach, edge + rng.uniform(-0.6, 1.5)

    # Distractors

    def _buildings(self) -> None:
        rng, main = self.rng, self.main
        for left in (False, True):
            back = main.kerb(left) + main.pavement + (20.0 if main.plaza[int(left)] else rng.uniform(0.5, 5.0))
            s = -1.6 * self.reach
            while s < 1.6 * self.reach:
                length, depth = float(rng.uniform(9, 24)), float(rng.uniform(7, 12))
                height = float(rng.uniform(4, 16))
                s += length / 2
                n = back + depth / 2 + rng.uniform(0, 3)
                x, y, yaw = main.axis.to_world(s, n if left else -n)
                if rng.random() < 0.85 and not self._on_cross(float(x), float(y), 3.0 + length / 2):
                    self._add("building", (length, depth, height), Motion(float(x), float(y), float(yaw)))
                s += length / 2 + (rng.uniform(2, 10) if rng.random() < 0.4 else 0.2)

    def _clutter(self, settings: WorldConfig) -> None:
        rng = self.rng
        for kind, (low, high) in (
            ("dumpster", settings.dumpsters),
            ("vegetation", settings.vegetation),
            ("pole", settings.poles),
            ("stone", settings.stones),
        ):
            for _ in range(int(rng.integers(low, high + 1))):
                size = self._clutter_size(kind)
                for _ in range(6):
                    turn = rng.choice([0, np.pi]) + rng.normal(0, 0.1) if kind == "dumpster" else rng.uniform(-3, 3)
                    motion, _ = self._footway(float(turn), 0.0)
                    if self._on_cross(motion.x, motion.y) or not self._near_ego(motion.x, motion.y):
                        continue
                    if self.footprints.try_add(size, motion):
                        self._add(kind, size, motion)
                        break

    def _clutter_size(self, kind: str) -> tuple[float, float, float]:
        rng = self.rng
        if kind == "dumpster":
            low, high = (3.4, 1.6, 1.2), (4.8, 2.0, 1.8)
        elif kind == "vegetation":
            low, high = (0.7, 0.7, 0.9), (2.4, 2.0, 2.4)
        elif kind == "pole":
            width = float(rng.uniform(0.3, 0.7))
            return width, width, float(rng.normal(1.75, 0.1) if rng.random() < 0.5 else rng.uniform(3.0, 6.0))
        else:
            low, high = (0.3, 0.3, 0.5), (0.6, 0.9, 1.15)
        length, width, height = (float(v) for v in rng.uniform(low, high))
        return length, width, height


def sample_conditions(
    settings: WorldConfig, brightness: tuple[float, float], noise: tuple[float, float], rng: Rng
) -> Conditions:
    """Weather, lighting and exposure."""
    azimuth, height = rng.uniform(-np.pi, np.pi), rng.uniform(0.5, 1.2)
    return Conditions(
        night=bool(rng.random() < settings.night),
        rain=bool(rng.random() < settings.rain),
        brightness=float(rng.uniform(*brightness)),
        noise=float(rng.uniform(*noise)),
        sun=(float(np.cos(azimuth) * np.cos(height)), float(np.sin(azimuth) * np.cos(height)), float(np.sin(height))),
    )
