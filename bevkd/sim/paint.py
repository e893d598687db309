"""Paint: the colour of a point on a part, given where on the part it lies.

This is where the cameras get what LiDAR lacks: the class (stripes, windows, class-typical colours) and the heading
(white lamps and windscreens in front, red lamps at the rear, faces and backpacks).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bevkd.sim.shapes import Pattern
from bevkd.sim.world import Paint

F32 = NDArray[np.float32]
Mask = NDArray[np.bool_]

FRONT, REAR, SIDE, TOP = 0, 1, 2, 3
_GLASS = np.array([0.1, 0.14, 0.2], dtype=np.float32)
_WINDSCREEN = np.array([0.3, 0.42, 0.52], dtype=np.float32)
_LAMP = np.array([1.0, 1.0, 0.95], dtype=np.float32)
_TAIL = np.array([0.9, 0.03, 0.05], dtype=np.float32)
_RUBBER = np.array([0.05, 0.05, 0.05], dtype=np.float32)


@dataclass(slots=True)
class Surface:
    """Visible points of parts of one pattern.

    u, v, w run from -1 to 1 along the part's length, width and height; `half` (3, P) is its half size in m; `face` is
    one of FRONT, REAR, SIDE, TOP; `colour` and `glow` (light of its own) are filled in by the painters.
    """

    u: F32
    v: F32
    w: F32
    half: F32
    face: NDArray[np.int8]
    a: F32
    b: F32
    grain: F32
    colour: F32
    glow: F32

    def fill(self, mask: Mask, colour: F32) -> None:
        """Set the colour under a mask."""
        self.colour[mask] = colour if colour.ndim == 1 else colour[mask]

    def light(self, mask: Mask, colour: F32, glow: float) -> None:
        """A lamp: colour plus its own light."""
        self.colour[mask] = colour
        self.glow[mask] = glow


def _lamps(s: Surface, inner: float, low: float, high: float) -> None:
    band = (np.abs(s.v) > inner) & (s.w > low) & (s.w < high)
    s.light(band & (s.face == FRONT), _LAMP, 0.9)
    s.light(band & (s.face == REAR), _TAIL, 0.6)


def _wheels(s: Surface, at: tuple[float, ...], radius_m: float) -> None:
    x, z = s.u * s.half[0], (s.w + 1.0) * s.half[2]
    for u in at:
        s.fill((s.face == SIDE) & ((x - u * s.half[0]) ** 2 + z**2 < radius_m**2), _RUBBER)


def _plain(s: Surface) -> None:
    pass


def _car_body(s: Surface) -> None:
    s.fill((s.face == FRONT) & (np.abs(s.v) < 0.5) & (s.w < 0.1) & (s.w > -0.6), _RUBBER)  # grille
    _wheels(s, (-0.6, 0.62), 0.36)
    _lamps(s, 0.5, -0.2, 0.65)


def _cabin(s: Surface) -> None:
    pane = (s.w > -0.85) & (s.w < 0.65)
    s.fill(pane & (s.face == SIDE) & (np.abs(s.u) < 0.92) & (np.abs(s.u + 0.1) > 0.06), _GLASS)
    s.fill(pane & (s.face == REAR) & (np.abs(s.v) < 0.85), _GLASS)
    s.fill(pane & (s.face == FRONT) & (np.abs(s.v) < 0.92), _WINDSCREEN)


def _truck_cab(s: Surface) -> None:
    s.fill((s.face == FRONT) & (s.w > 0.05) & (s.w < 0.8) & (np.abs(s.v) < 0.9), _WINDSCREEN)
    s.fill((s.face == SIDE) & (s.w > 0.1) & (s.w < 0.8) & (s.u > -0.3) & (s.u < 0.8), _GLASS)
    _lamps(s, 0.55, -0.75, -0.35)


def _cargo(s: Surface) -> None:
    s.fill((s.face != TOP) & (s.w > -0.35) & (s.w < 0.25), s.b)  # company stripe in the cab's colour
    s.fill((s.face == REAR) & (np.abs(s.v) < 0.04), _RUBBER)
    s.light((s.face == REAR) & (np.abs(s.v) > 0.6) & (s.w < -0.7), _TAIL, 0.6)


def _bus(s: Surface) -> None:
    pillar = np.abs(np.mod(s.u * s.half[0], 1.5) - 0.75) > 0.66
    band = (s.w > 0.0) & (s.w < 0.65)
    s.fill((s.face == SIDE) & band & ~pillar, _GLASS)
    s.fill((s.face == SIDE) & (s.w > -0.45) & (s.w < -0.3), s.b)
    s.fill((s.face == FRONT) & (s.w > -0.15) & (s.w < 0.68) & (np.abs(s.v) < 0.92), _WINDSCREEN)
    s.light((s.face == FRONT) & (s.w >= 0.72) & (np.abs(s.v) < 0.7), np.array([1.0, 0.85, 0.2], np.float32), 0.8)
    s.fill((s.face == REAR) & (s.w > 0.2) & (s.w < 0.65) & (np.abs(s.v) < 0.7), _GLASS)
    s.light((s.face == REAR) & (np.abs(s.v) > 0.6) & (s.w > -0.85) & (s.w < -0.45), _TAIL, 0.6)
    _wheels(s, (-0.55, 0.6), 0.5)


def _bumper(s: Surface) -> None:
    _lamps(s, 0.55, -0.3, 0.5)


def _trailer(s: Surface) -> None:
    rib = np.mod(s.u * s.half[0], 0.9) < 0.35
    s.fill((s.face == SIDE) & rib, s.b)
    chevron = np.mod(s.v * s.half[1] + s.w * s.half[2], 0.8) < 0.4
    low = (s.face == REAR) & (s.w < -0.35)
    s.fill(low, np.array([0.95, 0.95, 0.9], np.float32))
    s.light(low & chevron, _TAIL, 0.3)
    s.fill((s.face == FRONT), s.b)


def _machine(s: Surface) -> None:
    stripe = np.mod(s.v * s.half[1] + s.w * s.half[2], 0.7) < 0.35
    s.fill(((s.face == REAR) | (s.face == FRONT)) & stripe, s.b)
    s.fill((s.face == SIDE) & (s.w < -0.5), s.b)
    s.light((s.face == REAR) & (np.abs(s.v) > 0.75) & (s.w > 0.2), _TAIL, 0.6)


def _cycle(s: Surface) -> None:
    radius = np.minimum(s.half[2] * 0.9, s.half[0])
    x, z = np.abs(np.abs(s.u) - 0.62) * s.half[0], (s.w + 0.3) * s.half[2]
    s.fill((s.face == SIDE) & (x * x + z * z > (0.55 * radius) ** 2) & (s.w > -0.5), s.b)
    s.light((s.face == FRONT) & (s.w > 0.2), _LAMP, 0.8)
    s.light((s.face == REAR) & (s.w > 0.2), _TAIL, 0.6)


def _torso(s: Surface) -> None:
    s.fill((s.face == FRONT) & (np.abs(s.v) < 0.3), s.b)  # an open jacket


def _head(s: Surface) -> None:
    hair = (s.face == REAR) | (s.face == TOP) | ((s.face == SIDE) & (s.u < 0.1)) | (s.w > 0.55)
    s.fill(hair, s.b)


def _barrier(s: Surface) -> None:
    s.fill(np.mod(s.v * s.half[1] + 0.5 * s.w * s.half[2], 0.8) < 0.4, s.b)


def _building(s: Surface) -> None:
    run = np.where(s.face == SIDE, s.u * s.half[0], s.v * s.half[1])
    window = (np.mod(run, 3.0) > 1.2) & (np.mod((s.w + 1) * s.half[2], 3.2) > 1.5) & (s.face != TOP)
    s.fill(window, s.b)
    lit = window & (np.mod(np.floor(run / 3.0) * 7.0 + np.floor((s.w + 1) * s.half[2] / 3.2) * 3.0, 5.0) < 1.0)
    s.glow[lit] = 0.8


def _foliage(s: Surface) -> None:
    s.colour *= (0.55 + 0.9 * s.grain)[:, None]


def _dumpster(s: Surface) -> None:
    s.colour *= np.where(np.mod(s.u * s.half[0], 0.7) < 0.12, 0.6, 1.0).astype(np.float32)[:, None]
    s.fill((s.face != TOP) & (s.w > 0.8), _RUBBER)


def _stone(s: Surface) -> None:
    s.colour *= (0.8 + 0.4 * s.grain)[:, None]


def _axles(s: Surface) -> None:
    x, gap = np.mod(s.u * s.half[0] + s.half[0], 1.3), 0.35
    s.fill((s.face == SIDE) & (np.abs(x - 0.65) > gap), np.array([0.3, 0.3, 0.3], np.float32))
    s.fill((s.face == SIDE) & (np.abs(x - 0.65) <= gap), _RUBBER)


_PAINTERS: dict[Pattern, Callable[[Surface], None]] = {
    Pattern.PLAIN: _plain,
    Pattern.CAR_BODY: _car_body,
    Pattern.CABIN: _cabin,
    Pattern.TRUCK_CAB: _truck_cab,
    Pattern.CARGO: _cargo,
    Pattern.BUS: _bus,
    Pattern.TRAILER: _trailer,
    Pattern.MACHINE: _machine,
    Pattern.CYCLE: _cycle,
    Pattern.TORSO: _torso,
    Pattern.HEAD: _head,
    Pattern.BARRIER: _barrier,
    Pattern.BUILDING: _building,
    Pattern.FOLIAGE: _foliage,
    Pattern.DUMPSTER: _dumpster,
    Pattern.STONE: _stone,
    Pattern.WHEELS: _axles,
    Pattern.BUMPER: _bumper,
}


def paint(
    paints: Paint, part: NDArray[np.int32], local: F32, half: F32, grain: F32
) -> tuple[F32, F32, NDArray[np.int8]]:
    """Colour of surface points.

    Args:
        part: index of the part of each point (P,).
        local: its place (3, P) in the part's frame (m); half: the part's half size (3, P).
        grain: fixed noise (P,) in [0, 1).

    Returns:
        colour (P, 3) in [0, 1], glow (P,), and the face of each point.
    """
    u, v, w = local / half
    au, av, aw = np.abs(u), np.abs(v), np.abs(w)
    face = np.where(u > 0, FRONT, REAR).astype(np.int8)
    face[(av > au) & (av >= aw)] = SIDE
    face[(aw > au) & (aw > av)] = TOP
    colour, glow = paints.a[part], np.zeros(len(part), dtype=np.float32)
    pattern = paints.pattern[part]
    for kind in np.unique(pattern):
        painter = _PAINTERS[Pattern(kind)]
        if painter is _plain:
            continue
        i = np.flatnonzero(pattern == kind)
        chosen = part[i]
        surface = Surface(
            u[i], v[i], w[i], half[:, i], face[i], paints.a[chosen], paints.b[chosen], grain[i], colour[i], glow[i]
        )
        painter(surface)
        colour[i], glow[i] = surface.colour, surface.glow
    return colour, glow, face
