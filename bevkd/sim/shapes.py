"""What things look like: each class is a few oriented boxes ("parts") with a paint pattern and two colours.

Parts are given in fractions of the box: x from -0.5 (rear) to 0.5 (front) of the length, y likewise of the width, z
from 0 (ground) to 1 of the height. Shapes differ between front and rear, so that LiDAR sees a heading once there are
enough points; the patterns add what only a camera sees.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

Rng = np.random.Generator
Colour = tuple[float, float, float]


class Pattern(IntEnum):
    """How a part is painted; see `bevkd.sim.paint`."""

    PLAIN = 0
    CAR_BODY = 1
    CABIN = 2
    TRUCK_CAB = 3
    CARGO = 4
    BUS = 5
    TRAILER = 6
    MACHINE = 7
    CYCLE = 8
    TORSO = 9
    HEAD = 10
    BARRIER = 11
    BUILDING = 12
    FOLIAGE = 13
    DUMPSTER = 14
    STONE = 15
    WHEELS = 16
    BUMPER = 17


@dataclass(frozen=True, slots=True)
class Part:
    """One box of a shape, in fractions of the enclosing box."""

    x: tuple[float, float]
    y: tuple[float, float]
    z: tuple[float, float]
    pattern: Pattern
    a: Colour
    b: Colour = (0.1, 0.1, 0.1)


# Mean (l, w, h) in metres and relative standard deviation, after the statistics of the real dataset.
SIZES: dict[str, tuple[tuple[float, float, float], float]] = {
    "car": ((4.6, 1.95, 1.73), 0.07),
    "truck": ((6.9, 2.5, 2.84), 0.12),
    "construction_vehicle": ((6.4, 2.85, 3.2), 0.12),
    "bus": ((11.0, 2.9, 3.5), 0.08),
    "trailer": ((12.3, 2.9, 3.9), 0.1),
    "barrier": ((0.5, 2.53, 0.98), 0.08),
    "motorcycle": ((2.1, 0.77, 1.47), 0.08),
    "bicycle": ((1.7, 0.6, 1.28), 0.08),
    "pedestrian": ((0.73, 0.67, 1.77), 0.08),
    "traffic_cone": ((0.41, 0.41, 1.07), 0.12),
}

_CAR_COLOURS: tuple[Colour, ...] = (
    (0.88, 0.88, 0.9),
    (0.62, 0.64, 0.67),
    (0.12, 0.12, 0.14),
    (0.3, 0.32, 0.35),
    (0.62, 0.08, 0.08),
    (0.1, 0.2, 0.55),
    (0.08, 0.32, 0.2),
)
_CLOTHES: tuple[Colour, ...] = (
    (0.75, 0.15, 0.2),
    (0.15, 0.25, 0.65),
    (0.85, 0.8, 0.3),
    (0.2, 0.5, 0.3),
    (0.7, 0.7, 0.72),
    (0.45, 0.2, 0.5),
    (0.2, 0.2, 0.25),
)
_SKIN: Colour = (0.85, 0.64, 0.5)
_RUBBER: Colour = (0.06, 0.06, 0.06)
_FULL = (-0.5, 0.5)


def _pick(rng: Rng, colours: tuple[Colour, ...]) -> Colour:
    base = np.asarray(colours[rng.integers(len(colours))])
    r, g, b = np.clip(base * rng.uniform(0.85, 1.15) + rng.normal(0, 0.02, 3), 0.02, 0.98)
    return float(r), float(g), float(b)


def sample_size(cls: str, rng: Rng, rider: bool = True) -> tuple[float, float, float]:
    """Random (l, w, h) of a class, rounded to millimetres as the tables store them.

    The published mean height of cycles is over those with and without a rider, so the two are spread around it.
    """
    mean, spread = SIZES[cls]
    scale = np.clip(rng.normal(1.0, spread, 3), 1 - 2.5 * spread, 1 + 2.5 * spread)
    length, width, height = np.asarray(mean) * scale
    if cls in ("bicycle", "motorcycle"):
        height *= 1.2 if rider else 0.8
    return round(float(length), 3), round(float(width), 3), round(float(height), 3)


def _car(rng: Rng, rider: bool) -> list[Part]:
    paint = _pick(rng, _CAR_COLOURS)
    rear, front = (-0.49, 0.27) if rng.random() < 0.25 else (-0.42, 0.16)  # van or saloon
    return [
        Part(_FULL, _FULL, (0.12, 0.57), Pattern.CAR_BODY, paint),
        Part((rear, front), (-0.43, 0.43), (0.57, 1.0), Pattern.CABIN, paint),
        Part((0.2, 0.4), (-0.48, 0.48), (0.0, 0.12), Pattern.PLAIN, _RUBBER),
        Part((-0.4, -0.2), (-0.48, 0.48), (0.0, 0.12), Pattern.PLAIN, _RUBBER),
    ]


def _truck(rng: Rng, rider: bool) -> list[Part]:
    cab = _pick(rng, ((0.15, 0.3, 0.75), (0.1, 0.5, 0.35), (0.75, 0.2, 0.15)))
    cargo = _pick(rng, ((0.85, 0.86, 0.88), (0.75, 0.78, 0.82)))
    split = rng.uniform(0.2, 0.28)
    return [
        Part((split + 0.02, 0.5), (-0.47, 0.47), (0.1, rng.uniform(0.72, 0.85)), Pattern.TRUCK_CAB, cab),
        Part((-0.5, split - 0.02), _FULL, (0.2, 1.0), Pattern.CARGO, cargo, cab),
        Part((-0.48, 0.44), (-0.42, 0.42), (0.0, 0.2), Pattern.WHEELS, (0.2, 0.2, 0.22)),
    ]


def _bus(rng: Rng, rider: bool) -> list[Part]:
    paint = _pick(rng, ((0.95, 0.75, 0.1), (0.9, 0.55, 0.1), (0.75, 0.85, 0.15)))
    return [
        Part((-0.5, 0.47), _FULL, (0.08, 0.93), Pattern.BUS, paint, (0.9, 0.9, 0.9)),
        Part((0.47, 0.5), (-0.47, 0.47), (0.08, 0.4), Pattern.BUMPER, paint),
        Part((-0.42, -0.12), (-0.35, 0.35), (0.93, 1.0), Pattern.PLAIN, (0.8, 0.8, 0.8)),
        Part((-0.45, 0.42), (-0.44, 0.44), (0.0, 0.08), Pattern.WHEELS, (0.1, 0.1, 0.1)),
    ]


def _trailer(rng: Rng, rider: bool) -> list[Part]:
    paint = _pick(rng, ((0.5, 0.27, 0.17), (0.36, 0.4, 0.33), (0.48, 0.2, 0.3)))
    dark = tuple(0.55 * c for c in paint)
    return [
        Part((-0.5, 0.48), _FULL, (0.3, 1.0), Pattern.TRAILER, paint, dark),  # type: ignore[arg-type]
        Part((0.48, 0.5), (-0.25, 0.25), (0.5, 0.85), Pattern.PLAIN, (0.75, 0.75, 0.75)),
        Part((-0.46, -0.2), (-0.46, 0.46), (0.0, 0.3), Pattern.WHEELS, (0.12, 0.12, 0.12)),
        Part((0.24, 0.28), (-0.3, 0.3), (0.0, 0.3), Pattern.PLAIN, (0.3, 0.3, 0.3)),
    ]


def _construction_vehicle(rng: Rng, rider: bool) -> list[Part]:
    paint = _pick(rng, ((0.95, 0.6, 0.05), (0.98, 0.7, 0.08)))
    dark = (0.15, 0.15, 0.15)
    return [
        Part((-0.5, 0.2), (-0.5, 0.5), (0.0, 0.26), Pattern.WHEELS, dark),
        Part((-0.5, 0.12), (-0.44, 0.44), (0.26, 0.56), Pattern.MACHINE, paint, dark),
        Part((-0.22, 0.1), (-0.32, 0.3), (0.56, 1.0), Pattern.CABIN, paint),
        Part((0.12, 0.42), (-0.12, 0.12), (0.34, rng.uniform(0.6, 0.85)), Pattern.PLAIN, paint),
        Part((0.36, 0.5), (-0.48, 0.48), (0.02, 0.34), Pattern.PLAIN, (0.45, 0.36, 0.2)),
    ]


def _rider(rng: Rng, seat: float) -> list[Part]:
    shirt = _pick(rng, _CLOTHES)
    return [
        Part((-0.24, 0.02), (-0.42, 0.42), (seat, 0.85), Pattern.TORSO, shirt, (0.2, 0.2, 0.2)),
        Part((-0.12, 0.06), (-0.2, 0.2), (0.85, 1.0), Pattern.HEAD, _SKIN, _pick(rng, _CLOTHES)),
    ]


def _motorcycle(rng: Rng, rider: bool) -> list[Part]:
    paint = _pick(rng, ((0.8, 0.08, 0.08), (0.1, 0.15, 0.7)))
    top = 0.66 if rider else 1.0
    parts = [
        Part(_FULL, (-0.18, 0.18), (0.0, 0.55 * top), Pattern.CYCLE, (0.12, 0.12, 0.13), paint),
        Part((-0.38, 0.24), (-0.32, 0.32), (0.45 * top, 0.8 * top), Pattern.PLAIN, paint),
        Part((0.22, 0.3), (-0.5, 0.5), (0.8 * top, top), Pattern.PLAIN, (0.15, 0.15, 0.15)),
    ]
    return parts + (_rider(rng, 0.5) if rider else [])


def _bicycle(rng: Rng, rider: bool) -> list[Part]:
    paint = _pick(rng, ((0.15, 0.75, 0.35), (0.2, 0.75, 0.75)))
    top = 0.66 if rider else 1.0
    parts = [
        Part((-0.5, -0.12), (-0.08, 0.08), (0.0, 0.6 * top), Pattern.CYCLE, _RUBBER, paint),
        Part((0.14, 0.5), (-0.08, 0.08), (0.0, 0.6 * top), Pattern.CYCLE, _RUBBER, paint),
        Part((-0.2, 0.24), (-0.07, 0.07), (0.4 * top, 0.72 * top), Pattern.PLAIN, paint),
        Part((-0.24, -0.1), (-0.16, 0.16), (0.72 * top, 0.85 * top), Pattern.PLAIN, paint),
        Part((0.2, 0.28), (-0.5, 0.5), (0.85 * top, top), Pattern.PLAIN, paint),
    ]
    return parts + (_rider(rng, 0.48) if rider else [])


def _pedestrian(rng: Rng, rider: bool) -> list[Part]:
    shirt, trousers = _pick(rng, _CLOTHES), _pick(rng, ((0.12, 0.15, 0.3), (0.3, 0.28, 0.25), (0.1, 0.1, 0.1)))
    parts = [
        Part((-0.1, 0.38), (0.02, 0.4), (0.0, 0.47), Pattern.PLAIN, trousers),
        Part((-0.5, 0.04), (-0.4, -0.02), (0.0, 0.47), Pattern.PLAIN, trousers),
        Part((-0.24, 0.24), (-0.5, 0.5), (0.47, 0.85), Pattern.TORSO, shirt, (0.92, 0.92, 0.9)),
        Part((-0.14, 0.2), (-0.17, 0.17), (0.85, 1.0), Pattern.HEAD, _SKIN, (0.12, 0.08, 0.06)),
        Part((0.24, 0.5), (-0.3, 0.3), (0.55, 0.63), Pattern.PLAIN, _SKIN),
    ]
    if rng.random() < 0.8:
        bag = _pick(rng, ((0.1, 0.1, 0.12), (0.35, 0.2, 0.1)))
        parts.append(Part((-0.5, -0.24), (-0.36, 0.36), (0.52, 0.82), Pattern.PLAIN, bag))
    return parts


def _traffic_cone(rng: Rng, rider: bool) -> list[Part]:
    orange = _pick(rng, ((1.0, 0.42, 0.05),))
    return [
        Part(_FULL, _FULL, (0.0, 0.08), Pattern.PLAIN, orange),
        Part((-0.36, 0.36), (-0.36, 0.36), (0.08, 0.4), Pattern.PLAIN, orange),
        Part((-0.27, 0.27), (-0.27, 0.27), (0.4, 0.7), Pattern.PLAIN, (0.95, 0.95, 0.95)),
        Part((-0.18, 0.18), (-0.18, 0.18), (0.7, 1.0), Pattern.PLAIN, orange),
    ]


def _barrier(rng: Rng, rider: bool) -> list[Part]:
    red = _pick(rng, ((0.85, 0.1, 0.1), (0.9, 0.3, 0.05)))
    return [
        Part(_FULL, _FULL, (0.0, 0.3), Pattern.BARRIER, red, (0.95, 0.95, 0.95)),
        Part((-0.28, 0.28), _FULL, (0.3, 1.0), Pattern.BARRIER, red, (0.95, 0.95, 0.95)),
    ]


def _pole(rng: Rng, rider: bool) -> list[Part]:
    grey = _pick(rng, ((0.45, 0.45, 0.47), (0.35, 0.3, 0.25), (0.55, 0.55, 0.5)))
    if rng.random() < 0.5:
        return [Part(_FULL, _FULL, (0.0, 1.0), Pattern.STONE, grey)]
    return [
        Part((-0.3, 0.3), (-0.3, 0.3), (0.0, 0.6), Pattern.STONE, grey),
        Part(_FULL, _FULL, (0.6, 1.0), Pattern.STONE, grey),
    ]


def _stone(rng: Rng, rider: bool) -> list[Part]:
    grey = _pick(rng, ((0.42, 0.4, 0.38), (0.5, 0.46, 0.4), (0.35, 0.36, 0.36)))
    return [
        Part(_FULL, _FULL, (0.0, 0.5), Pattern.STONE, grey),
        Part((-0.35, 0.3), (-0.3, 0.35), (0.5, 1.0), Pattern.STONE, grey),
    ]


def _dumpster(rng: Rng, rider: bool) -> list[Part]:
    green = _pick(rng, ((0.12, 0.28, 0.15), (0.25, 0.27, 0.22), (0.2, 0.22, 0.3)))
    return [
        Part(_FULL, _FULL, (0.08, rng.uniform(0.55, 0.8)), Pattern.DUMPSTER, green),
        Part((-0.48, 0.1), (-0.46, 0.46), (0.5, 1.0), Pattern.DUMPSTER, green),
    ]


def _vegetation(rng: Rng, rider: bool) -> list[Part]:
    green = _pick(rng, ((0.16, 0.36, 0.1), (0.25, 0.42, 0.14), (0.2, 0.3, 0.12)))
    if rng.random() < 0.4:  # a tree
        return [
            Part((-0.08, 0.08), (-0.08, 0.08), (0.0, 0.5), Pattern.STONE, (0.3, 0.22, 0.15)),
            Part(_FULL, _FULL, (0.5, 0.85), Pattern.FOLIAGE, green),
            Part((-0.3, 0.25), (-0.3, 0.3), (0.85, 1.0), Pattern.FOLIAGE, green),
        ]
    return [
        Part(_FULL, _FULL, (0.0, 0.6), Pattern.FOLIAGE, green),
        Part((-0.35, 0.3), (-0.3, 0.4), (0.6, 1.0), Pattern.FOLIAGE, green),
    ]


def _building(rng: Rng, rider: bool) -> list[Part]:
    wall = _pick(rng, ((0.55, 0.42, 0.34), (0.62, 0.6, 0.55), (0.45, 0.47, 0.5), (0.6, 0.5, 0.38)))
    return [Part(_FULL, _FULL, (0.0, 1.0), Pattern.BUILDING, wall, (0.15, 0.18, 0.22))]


BUILDERS: dict[str, Callable[[Rng, bool], list[Part]]] = {
    "car": _car,
    "truck": _truck,
    "construction_vehicle": _construction_vehicle,
    "bus": _bus,
    "trailer": _trailer,
    "barrier": _barrier,
    "motorcycle": _motorcycle,
    "bicycle": _bicycle,
    "pedestrian": _pedestrian,
    "traffic_cone": _traffic_cone,
    "pole": _pole,
    "stone": _stone,
    "dumpster": _dumpster,
    "vegetation": _vegetation,
    "building": _building,
}

# Mean radar cross-section (dBsm). LiDAR reflectivity is drawn alike for all kinds, so that it is no cue to the class.
RCS: dict[str, float] = {
    "car": 10.0,
    "truck": 18.0,
    "construction_vehicle": 17.0,
    "bus": 20.0,
    "trailer": 19.0,
    "barrier": 2.0,
    "motorcycle": 3.0,
    "bicycle": 0.0,
    "pedestrian": -4.0,
    "traffic_cone": -8.0,
    "pole": 0.0,
    "stone": -8.0,
    "dumpster": 11.0,
    "vegetation": -6.0,
    "building": 12.0,
}
