"""LiDAR scans: first surface per ray, drop-out, range noise, intensity, ring index.

A scan is taken at one instant: the motion of the ego vehicle during a rotation is neglected, so that the points need no
de-skewing.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bevkd.sim.config import LidarConfig
from bevkd.sim.raycast import Boxes, Hits, SpinGrid, cast
from bevkd.sim.rig import Calibration
from bevkd.sim.world import World

_GROUND_REFLECTIVITY = 14.0


def scan(
    world: World,
    boxes: Boxes,
    calibration: Calibration,
    config: LidarConfig,
    rng: np.random.Generator,
    count_alone: bool = False,
) -> tuple[NDArray[np.float32], Hits]:
    """One scan.

    Args:
        boxes: the parts in the ego frame at the time of the scan.
        count_alone: whether `Hits.alone` is wanted.

    Returns:
        points (P, 5) float32: x, y, z in the sensor frame (m), intensity 0-255, ring index; and the hits of all rays.
    """
    elevations = np.deg2rad(np.linspace(*config.elevation_deg, config.rings))
    rotation = calibration.ego_from_sensor
    origin = np.asarray(calibration.translation)
    phase = float(rng.uniform(0, 2 * np.pi / config.azimuths))
    grid = SpinGrid.build(origin, rotation, elevations, config.azimuths, phase, config.range_m)
    hits = cast(grid, boxes, world.owner, len(world.objects) if count_alone else 0)

    index, distance, intensity = returns(world, grid, hits, config, rng)
    points = np.empty((len(index), 5), dtype=np.float32)
    points[:, :3] = ((rotation.T @ grid.directions[:, index]) * distance).T
    points[:, 3] = intensity
    points[:, 4] = index // config.azimuths
    return points, hits


def returns(
    world: World, grid: SpinGrid, hits: Hits, config: LidarConfig, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """What comes back of the rays of a scan.

    Returns:
        the rays with a return (P,) in firing order, all rings of one azimuth, then the next azimuth; their measured
        distance (P,) in m, and intensity (P,) 0-255.
    """
    dz, height = grid.directions[2], np.float32(grid.origin[2])
    ground = np.where(dz < -1e-4, -height / np.minimum(dz, np.float32(-1e-4)), np.float32(np.inf))
    on_box = hits.distance < ground
    distance = np.where(on_box, hits.distance, ground)
    reflectivity = np.full(len(distance), _GROUND_REFLECTIVITY, dtype=np.float32)
    reflectivity[on_box] = world.reflectivity[world.owner[hits.box[on_box]]]

    rain = world.conditions.rain
    lost = config.drop + config.drop_at_60m * np.minimum(distance, 1e4) / 60.0 + (config.rain_drop if rain else 0.0)
    keep = (distance < config.range_m) & (rng.random(len(distance), dtype=np.float32) >= lost)
    order = np.arange(len(distance)).reshape(grid.height, grid.width).T.ravel()
    index = order[keep[order]]
    noisy = distance[index] + rng.normal(0.0, config.noise_m, len(index))
    spread = rng.gamma(6.0, 1.0 / 6.0, len(index)) * (0.7 if rain else 1.0)
    return index, noisy, np.clip(np.round(reflectivity[index] * spread), 0, 255)
