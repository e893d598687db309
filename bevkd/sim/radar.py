"""Radar scans in the 18 fields of the nuScenes `.pcd` files: radial velocity, cross-section, misses, clutter, noise."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bevkd.sim.config import RadarConfig
from bevkd.sim.raycast import Boxes, SpinGrid, cast
from bevkd.sim.rig import Calibration
from bevkd.sim.world import World

RADAR_DTYPE = np.dtype(
    [
        ("x", "<f4"),
        ("y", "<f4"),
        ("z", "<f4"),
        ("dyn_prop", "i1"),
        ("id", "<i2"),
        ("rcs", "<f4"),
        ("vx", "<f4"),
        ("vy", "<f4"),
        ("vx_comp", "<f4"),
        ("vy_comp", "<f4"),
        ("is_quality_valid", "i1"),
        ("ambig_state", "i1"),
        ("x_rms", "i1"),
        ("y_rms", "i1"),
        ("invalid_state", "i1"),
        ("pdh0", "i1"),
        ("vx_rms", "i1"),
        ("vy_rms", "i1"),
    ]
)
_MOVING, _STATIONARY, _ONCOMING = 0, 1, 2  # how a cluster moves, in the sensor's codes
_MAX_POINTS = 125
# What the sensor says of a cluster: shares of each code among targets and among false alarms, which it tells apart in
# most but not in all cases. The shares are guesses; nothing here was fitted to recordings.
_STATES: dict[str, tuple[dict[int, float], dict[int, float]]] = {
    # Whether the speed is unambiguous: 3 yes, 4 only if it stands still, 2 staggered ramp, 1 no, 0 invalid.
    "ambig_state": (
        {3: 0.94, 4: 0.03, 2: 0.01, 1: 0.02},
        {3: 0.62, 4: 0.12, 2: 0.08, 1: 0.16, 0: 0.02},
    ),
    # 0 valid; valid, but: 4 weak, 8 corrected for elevation, 9 probably a child of another, 11 no local maximum,
    # 12 probably an artefact, 16 several targets, 17 odd angle; invalid: 1 weak, 2 near-field artefact, 6 mirror image,
    # 14 harmonic.
    "invalid_state": (
        {0: 0.92, 4: 0.02, 8: 0.01, 9: 0.01, 11: 0.01, 16: 0.02, 17: 0.01},
        {0: 0.46, 4: 0.12, 9: 0.05, 11: 0.05, 12: 0.08, 16: 0.03, 17: 0.05, 1: 0.06, 2: 0.03, 6: 0.05, 14: 0.02},
    ),
    # Probability of a false alarm: at most 25, 50, 75, 90, 99, 99.9, 100 %.
    "pdh0": (
        {1: 0.78, 2: 0.12, 3: 0.06, 4: 0.03, 5: 0.01},
        {1: 0.34, 2: 0.16, 3: 0.16, 4: 0.14, 5: 0.12, 6: 0.05, 7: 0.03},
    ),
}
# Two fans of rays, slightly below and above the horizon, stand in for the antenna's vertical beam.
_ELEVATIONS = np.deg2rad(np.array([-1.5, 2.5]))


def fan(calibration: Calibration, config: RadarConfig) -> SpinGrid:
    """The rays of one radar; worth keeping, since they depend on the calibration only."""
    origin, rotation = np.asarray(calibration.translation), calibration.ego_from_sensor
    return SpinGrid.build(origin, rotation, _ELEVATIONS, config.rays, 0.0, config.range_m)


def scan(
    world: World,
    boxes: Boxes,
    grid: SpinGrid,
    calibration: Calibration,
    config: RadarConfig,
    t_s: float,
    rng: np.random.Generator,
    state_rng: np.random.Generator,
) -> NDArray[np.void]:
    """One scan as a structured array of `RADAR_DTYPE`, in the radar frame (x along its axis, z = 0).

    `vx, vy` is the velocity relative to the sensor, `vx_comp, vy_comp` the velocity over ground; both lie along the
    ray, because a radar sees no other component. States are drawn from a stream of their own, `state_rng`: whatever is
    said of a cluster, everything else that is seen stays as it is.
    """
    rotation, origin = calibration.ego_from_sensor, np.asarray(calibration.translation)
    hits = cast(grid, boxes)
    azimuth = np.tile(np.arange(config.rays) * (2 * np.pi / config.rays), len(_ELEVATIONS))
    azimuth = (azimuth + np.pi) % (2 * np.pi) - np.pi
    seen = (hits.box >= 0) & (np.abs(azimuth) <= np.deg2rad(config.fov_deg) / 2) & (hits.distance < config.range_m)
    rays = np.flatnonzero(seen)
    who = world.owner[hits.box[rays]]
    order = np.argsort(who, kind="stable")
    rays, who = rays[order], who[order]
    objects, first, count = np.unique(who, return_index=True, return_counts=True)

    # A strong or close target gives up to four clusters, a weak one is often missed.
    distance = hits.distance[rays[first]] if len(rays) else np.zeros(0)
    strength = world.rcs[objects] - 25.0 * np.log10(np.maximum(distance, 3.0) / 20.0)
    chance = (1.0 - config.miss) / (1.0 + np.exp(-(strength + 6.0) / 3.0))
    wanted = np.minimum(1 + (rng.random(len(objects)) * np.minimum(count / 4.0, 4.0)).astype(int), 4)
    wanted = np.where(rng.random(len(objects)) < chance, wanted, 0)
    pick = np.repeat(first, wanted) + (rng.random(wanted.sum()) * np.repeat(count, wanted)).astype(int)
    chosen = rays[pick] if len(rays) else np.zeros(0, dtype=np.int64)
    target = np.repeat(objects, wanted)

    ghosts = int(rng.poisson(config.clutter * (1.5 if world.conditions.rain else 1.0)))
    n = len(chosen) + ghosts
    r = np.concatenate([hits.distance[chosen].astype(np.float64), rng.uniform(3.0, config.range_m, ghosts)])
    r += rng.normal(0, config.range_noise_m, n)
    half = np.deg2rad(config.fov_deg) / 2
    angle = np.concatenate([azimuth[chosen], rng.uniform(-half, half, ghosts)])
    angle = angle + rng.normal(0, np.deg2rad(config.azimuth_noise_deg), n)
    unit = np.stack([np.cos(angle), np.sin(angle)], axis=-1)  # radar frame

    ego = world.ego.pose(t_s)
    over_ground = np.zeros((n, 2))
    world_velocity = world.velocities(t_s)[target]
    to_ego = np.array([[np.cos(ego[2]), np.sin(ego[2])], [-np.sin(ego[2]), np.cos(ego[2])]])
    over_ground[: len(chosen)] = world_velocity @ to_ego.T @ rotation[:2, :2]
    rate = world.ego.turn_rate
    sensor = np.array([world.ego.speed - rate * origin[1], rate * origin[0]]) @ rotation[:2, :2]
    noise = rng.normal(0, config.speed_noise, n)
    radial = (over_ground * unit).sum(axis=-1) + noise
    relative = radial - unit @ sensor

    out = np.zeros(n, dtype=RADAR_DTYPE)
    out["x"], out["y"] = unit[:, 0] * r, unit[:, 1] * r
    out["id"] = np.arange(n)
    rcs = np.concatenate([world.rcs[target], rng.normal(-5, 4, ghosts)]) + rng.normal(0, 2.0, n)
    out["rcs"] = np.round(rcs * 2) / 2  # the sensor reports steps of half a dB
    out["vx"], out["vy"] = unit[:, 0] * relative, unit[:, 1] * relative
    out["vx_comp"], out["vy_comp"] = unit[:, 0] * radial, unit[:, 1] * radial
    out["dyn_prop"] = np.where(np.abs(radial) < 0.4, _STATIONARY, np.where(radial < 0, _ONCOMING, _MOVING))
    out["is_quality_valid"] = 1
    rng.random((2, n))  # were drawn for the states once: what follows of the stream keeps its place
    alarm = np.arange(n) >= len(chosen)
    for name, shares in _STATES.items():
        out[name] = _codes(shares, alarm, state_rng)
    out["x_rms"], out["y_rms"] = 19, 20
    out["vx_rms"], out["vy_rms"] = 16, 3
    return out[np.argsort(r, kind="stable")][:_MAX_POINTS]


def _codes(
    shares: tuple[dict[int, float], dict[int, float]], alarm: NDArray[np.bool_], rng: np.random.Generator
) -> NDArray[np.int8]:
    """A code (n,) for each cluster, by whether it is a false alarm (n,)."""
    drawn = rng.random(len(alarm))
    out = np.zeros(len(alarm), dtype=np.int8)
    for of, mask in zip(shares, (~alarm, alarm), strict=True):
        place = np.searchsorted(np.cumsum(list(of.values()))[:-1], drawn[mask], side="right")
        out[mask] = np.array(list(of), dtype=np.int8)[place]
    return out


def encode(points: NDArray[np.void]) -> bytes:
    """The bytes of a nuScenes radar file; no detections are written as one point of NaN, as the readers expect."""
    if len(points) == 0:
        points = np.zeros(1, dtype=RADAR_DTYPE)
        for name in ("x", "y", "z"):
            points[name] = np.nan
    names = RADAR_DTYPE.names or ()
    kinds = [RADAR_DTYPE[name] for name in names]
    header = [
        "# .PCD v0.7 - Point Cloud Data file format",
        "VERSION 0.7",
        "FIELDS " + " ".join(names),
        "SIZE " + " ".join(str(kind.itemsize) for kind in kinds),
        "TYPE " + " ".join("F" if kind.kind == "f" else "I" for kind in kinds),
        "COUNT " + " ".join("1" for _ in names),
        f"WIDTH {len(points)}",
        "HEIGHT 1",
        "VIEWPOINT 0 0 0 1 0 0 0",
        f"POINTS {len(points)}",
        "DATA binary",
    ]
    return ("\n".join(header) + "\n").encode() + points.tobytes() + b"\n"
