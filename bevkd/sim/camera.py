"""Camera images: parts with paint, streets, sky, sun or headlights, rain, exposure, sensor noise."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bevkd.sim.config import CameraConfig
from bevkd.sim.paint import FRONT, REAR, SIDE, paint
from bevkd.sim.raycast import Boxes, Hits, PinholeGrid, cast
from bevkd.sim.rig import Calibration
from bevkd.sim.world import Conditions, Street, World

F32 = NDArray[np.float32]

_ASPHALT, _CONCRETE, _PLAZA, _GRASS, _WHITE, _YELLOW = (
    np.array(c, dtype=np.float32)
    for c in (
        (0.3, 0.3, 0.31),
        (0.56, 0.55, 0.52),
        (0.42, 0.41, 0.4),
        (0.34, 0.42, 0.22),
        (0.85, 0.85, 0.85),
        (0.8, 0.66, 0.2),
    )
)


def pinhole(calibration: Calibration, config: CameraConfig) -> PinholeGrid:
    """The rays of one camera; worth keeping, since they depend on the calibration only.

    Raises:
        ValueError: the calibration has no intrinsics.
    """
    if calibration.intrinsics is None:
        raise ValueError(f"{calibration.channel} is not a camera")
    origin, rotation = np.asarray(calibration.translation), calibration.ego_from_sensor
    return PinholeGrid.build(origin, rotation, calibration.intrinsics, config.height, config.width)


def render(
    world: World,
    boxes: Boxes,
    ego: NDArray[np.float64],
    grid: PinholeGrid,
    t_s: float,
    rng: np.random.Generator,
    count_alone: bool = False,
) -> tuple[NDArray[np.uint8], Hits]:
    """One image (H, W, 3) and the hits of its rays.

    Args:
        boxes: the parts in the ego frame at the time of exposure.
        ego: ego pose (x, y, yaw) in the world at that time.
        count_alone: whether `Hits.alone` is wanted.
    """
    hits = cast(grid, boxes, world.owner, len(world.objects) if count_alone else 0)
    dx, dy, dz = grid.directions
    height = np.float32(grid.origin[2])
    to_ground = np.where(dz < -1e-4, -height / np.minimum(dz, np.float32(-1e-4)), np.float32(np.inf))
    to_ground[to_ground > 250.0] = np.inf
    on_box = np.flatnonzero(hits.distance < to_ground)
    on_ground = np.flatnonzero((to_ground < np.inf) & ~(hits.distance < to_ground))
    image = _sky(world.conditions, dz)
    distance = np.minimum(hits.distance, to_ground)

    colour, glow = _shade_boxes(world, boxes, ego, grid, hits, on_box)
    image[on_box] = colour
    emission = np.zeros(len(image), dtype=np.float32)
    emission[on_box] = glow
    x = np.float32(grid.origin[0]) + to_ground[on_ground] * dx[on_ground]
    y = np.float32(grid.origin[1]) + to_ground[on_ground] * dy[on_ground]
    image[on_ground] = _ground(world, ego, x, y) * _sunlight(world.conditions, ego, None)
    if not (world.conditions.night or world.conditions.rain):
        image[on_ground] *= _shadow(world, ego, t_s, x, y)[:, None]
    solid = np.concatenate([on_box, on_ground])
    image[solid] = _atmosphere(world.conditions, image[solid], emission[solid], distance[solid], grid, solid)
    return _expose(world.conditions, image.reshape(grid.height, grid.width, 3), rng), hits


def encode(image: NDArray[np.uint8], quality: int) -> bytes:
    """JPEG bytes without chroma subsampling, which would smear the colour cues of small objects."""
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG", quality=quality, subsampling=0)
    return stream.getvalue()


def _hash(a: F32, b: F32) -> F32:
    """Fixed noise in [0, 1) of integer-valued coordinates."""
    h = a.astype(np.int32) * np.int32(73856093) ^ b.astype(np.int32) * np.int32(19349663)
    h = (h ^ (h >> 13)) * np.int32(1274126177)
    return ((h >> 8) & 1023).astype(np.float32) / 1024.0


def _sunlight(conditions: Conditions, ego: NDArray[np.float64], normal: F32 | None) -> F32:
    """Brightness of a surface (P,) with unit normals (P, 3) in the ego frame; None means level ground."""
    if conditions.night:
        ambient, direct = 0.16, 0.0
    elif conditions.rain:
        ambient, direct = 0.72, 0.12
    else:
        ambient, direct = 0.58, 0.52
    sun = np.asarray(conditions.sun)
    if normal is None:
        return np.float32(ambient + direct * sun[2]) * np.ones(1, dtype=np.float32)
    cos, sin = np.cos(ego[2]), np.sin(ego[2])
    local = np.array([cos * sun[0] + sin * sun[1], cos * sun[1] - sin * sun[0], sun[2]], dtype=np.float32)
    return np.float32(ambient) + np.float32(direct) * np.maximum(normal @ local, 0.0)


def _shade_boxes(
    world: World,
    boxes: Boxes,
    ego: NDArray[np.float64],
    grid: PinholeGrid,
    hits: Hits,
    rays: NDArray[np.int64],
) -> tuple[F32, F32]:
    part = hits.box[rays]
    point = grid.directions[:, rays] * hits.distance[rays]  # relative to the camera
    cos, sin = np.cos(boxes.yaw).astype(np.float32), np.sin(boxes.yaw).astype(np.float32)
    offset = (boxes.centre - grid.origin).astype(np.float32)
    c, s, d = cos[part], sin[part], point - offset[part].T
    local = np.stack([c * d[0] + s * d[1], c * d[1] - s * d[0], d[2]])
    half = boxes.half.astype(np.float32)[part].T
    cell = np.floor(local * np.float32(5.0))
    grain = _hash(cell[0] + 3 * cell[2] + 17 * part, cell[1] - 5 * cell[2])
    colour, glow, face = paint(world.paint, part, local, half, grain)
    normal = np.zeros((len(part), 3), dtype=np.float32)
    along = (face == FRONT) | (face == REAR)
    side = np.where(along, np.sign(local[0]), np.sign(local[1]))
    normal[:, 0] = np.where(along, c, -s) * side
    normal[:, 1] = np.where(along, s, c) * side
    flat = ~(along | (face == SIDE))
    normal[flat] = (0.0, 0.0, 1.0)
    return colour * _sunlight(world.conditions, ego, normal)[:, None], glow


def _sky(conditions: Conditions, dz: F32) -> F32:
    up = np.clip(dz * 2.5, 0.0, 1.0)[:, None]
    if conditions.night:
        low, high = (0.06, 0.06, 0.1), (0.01, 0.01, 0.04)
    elif conditions.rain:
        low, high = (0.68, 0.69, 0.71), (0.55, 0.57, 0.6)
    else:
        low, high = (0.82, 0.88, 0.95), (0.4, 0.6, 0.9)
    return (np.array(low, np.float32) * (1 - up) + np.array(high, np.float32) * up).astype(np.float32)


def _street_paint(colour: F32, street: Street, s: F32, n: F32) -> None:
    """Asphalt, lane marks and kerbs of one street, over what is there."""
    a, half = np.abs(n), np.float32(street.half_width)
    left = n > 0
    kerb = np.where(left, np.float32(street.kerb(True)), np.float32(street.kerb(False)))
    pavement = (a >= kerb) & (a < kerb + street.pavement)
    colour[pavement] = _CONCRETE
    colour[pavement & (np.mod(s, 2.0) < 0.12)] *= 0.8
    road = a < kerb
    colour[road] = _ASPHALT
    colour[road & (a > half) & (np.mod(s, 6.0) < 0.15)] = _WHITE  # parking bays
    colour[road & (np.abs(a - half) < 0.08)] = _WHITE
    lane = np.mod(a, np.float32(street.lane_width))
    dashed = road & (a < half - 1.0) & (a > 1.0) & ((lane < 0.08) | (lane > street.lane_width - 0.08))
    colour[dashed & (np.mod(s, 6.0) < 3.0)] = _WHITE
    colour[a < 0.12] = _YELLOW
    colour[np.abs(a - kerb) < 0.1] = (0.7, 0.7, 0.68)


def _ground(world: World, ego: NDArray[np.float64], x_ego: F32, y_ego: F32) -> F32:
    """Colour (P, 3) of the ground at places in the ego frame."""
    # Coordinates relative to the road's start keep float32 exact enough for lane marks.
    axis = world.main.axis
    cos, sin = np.float32(np.cos(ego[2])), np.float32(np.sin(ego[2]))
    x = cos * x_ego - sin * y_ego + np.float32(ego[0] - axis.x)
    y = sin * x_ego + cos * y_ego + np.float32(ego[1] - axis.y)
    s, n = _to_road(world.main, x, y, 0.0, 0.0)
    colour = np.empty((len(x), 3), dtype=np.float32)
    colour[:] = _GRASS
    for left in (False, True):
        if world.main.plaza[int(left)]:
            beyond = (n > 0) == left
            beyond &= np.abs(n) < world.main.kerb(left) + world.main.pavement + 19.0
            colour[beyond] = _PLAZA
    _street_paint(colour, world.main, s, n)
    if world.cross is not None:
        cs, cn = _to_road(world.cross, x, y, axis.x, axis.y)
        on_main = np.abs(n) < world.main.half_width
        crossing = np.abs(cn) < world.cross.half_width + 3.5
        stripes = on_main & crossing & (np.abs(cn) > world.cross.half_width + 0.7) & (np.mod(n, 1.2) < 0.6)
        other = ~on_main & (np.abs(cn) < world.cross.kerb(True) + world.cross.pavement)
        patch = colour[other]
        _street_paint(patch, world.cross, cs[other], cn[other])
        colour[other] = patch
        colour[on_main & (np.abs(cn) < world.cross.half_width)] = _ASPHALT
        colour[stripes] = _WHITE
    grain = _hash(np.floor(x * 3.0), np.floor(y * 3.0))
    return colour * (0.9 + 0.2 * grain)[:, None]


def _to_road(street: Street, x: F32, y: F32, shift_x: float, shift_y: float) -> tuple[F32, F32]:
    """Road coordinates of points given relative to (shift_x, shift_y), or to the road's own start when both are 0."""
    axis = street.axis
    start_x, start_y = (axis.x - shift_x, axis.y - shift_y) if shift_x or shift_y else (0.0, 0.0)
    local = type(axis)(start_x, start_y, axis.yaw, axis.curvature)
    s, n = local.to_road(x, y)
    return s.astype(np.float32), n.astype(np.float32)


def _shadow(world: World, ego: NDArray[np.float64], t_s: float, x: F32, y: F32) -> F32:
    """Darkening (P,) of the ground under and beside objects: a footprint shifted away from the sun."""
    pose = world.in_ego(t_s, ego)
    sun = np.asarray(world.conditions.sun)
    cos, sin = np.cos(ego[2]), np.sin(ego[2])
    away = -np.array([cos * sun[0] + sin * sun[1], cos * sun[1] - sin * sun[0]]) / sun[2]
    out = np.ones(len(x), dtype=np.float32)
    if len(x) == 0:
        return out
    lift = np.minimum(world.sizes[:, 2], 3.0) * 0.25
    centre = pose[:, :2] + away * lift[:, None]
    reach = world.sizes[:, :2].sum(axis=1) / 2
    seen = (
        (np.hypot(pose[:, 0], pose[:, 1]) < 30.0) & (centre[:, 0] + reach > x.min()) & (centre[:, 0] - reach < x.max())
    )
    seen &= (centre[:, 1] + reach > y.min()) & (centre[:, 1] - reach < y.max())
    for i in np.flatnonzero(seen):
        yaw, (length, width, _) = pose[i, 2], world.sizes[i]
        dx, dy = x - np.float32(centre[i, 0]), y - np.float32(centre[i, 1])
        near = np.flatnonzero(np.maximum(np.abs(dx), np.abs(dy)) < np.float32(reach[i]))
        c, s = np.float32(np.cos(yaw)), np.float32(np.sin(yaw))
        u, v = c * dx[near] + s * dy[near], c * dy[near] - s * dx[near]
        out[near[(np.abs(u) < length / 2 + 0.1) & (np.abs(v) < width / 2 + 0.1)]] = 0.55
    return out


def _atmosphere(
    conditions: Conditions, colour: F32, glow: F32, distance: F32, grid: PinholeGrid, rays: NDArray[np.int64]
) -> F32:
    """Headlights and lamps at night, haze and rain in between."""
    own = colour
    if conditions.night:
        # Head lamps of the ego light what lies ahead; street lamps the rest, faintly.
        dx, dy = grid.directions[0, rays], grid.directions[1, rays]
        ahead = np.clip(dx * 1.6 - np.abs(dy) * 1.2, 0.0, 1.0)
        lamps = ahead * np.exp(-distance / 18.0) * 3.2 + 0.9 * np.exp(-distance / 30.0)
        colour = colour * (1.0 + lamps)[:, None]
        lit = glow * 5.0  # makes up for the darkness that `colour` already carries
    else:
        lit = glow * 0.35
    reach, haze = (70.0, 0.62) if conditions.rain else (350.0, 0.8)
    if conditions.night:
        haze = 0.05
    fog = (1.0 - np.exp(-distance / reach))[:, None].astype(np.float32)
    return colour * (1.0 - fog) + np.float32(haze) * fog + lit[:, None] * (0.05 + own)


def _expose(conditions: Conditions, image: F32, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Rain on the lens, exposure and noise; then 8 bits."""
    h, w, _ = image.shape
    if conditions.rain:
        grey = image.mean(axis=-1, keepdims=True)
        image = 0.75 * image + 0.25 * grey
        blurred = image.copy()
        blurred[1:-1] = (image[:-2] + 2 * image[1:-1] + image[2:]) / 4
        blurred[:, 1:-1] = (blurred[:, :-2] + 2 * blurred[:, 1:-1] + blurred[:, 2:]) / 4
        image = 0.5 * image + 0.5 * blurred
        streaks = int(rng.poisson(12))
        for column, top, length in zip(
            rng.integers(w, size=streaks),
            rng.integers(h, size=streaks),
            rng.integers(h // 10, h // 3, size=streaks),
            strict=True,
        ):
            image[top : top + length, column] = 0.75 * image[top : top + length, column] + 0.2
    noise = rng.standard_normal(image.shape, dtype=np.float32)
    noise *= np.float32(conditions.noise * (1.6 if conditions.night else 1.0))
    image = image * np.float32(conditions.brightness) + noise
    return np.clip(image * 255.0 + 0.5, 0, 255).astype(np.uint8)
