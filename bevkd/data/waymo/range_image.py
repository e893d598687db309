"""Range images to points and back.

A range image has one row per beam, the highest first, and one column per azimuth: column j of W looks along

    azimuth(j) = ((W - j - 1/2) / W * 2 - 1) pi - correction,     correction = atan2(R[1, 0], R[0, 0]),

R being the rotation of the sensor in the vehicle, in the sensor's own frame. Its four channels are range (m),
intensity, elongation, and whether the pixel lies in a no-label zone; a range that is not positive means no return.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def uniform_inclinations(low: float, high: float, height: int) -> Array:
    """Inclinations (height,) of evenly spread beams, the lowest first (rad)."""
    return low + (np.arange(height) + 0.5) / height * (high - low)


def azimuths(width: int, vehicle_from_sensor: Array) -> Array:
    """Azimuth (W,) of every column in the sensor frame (rad)."""
    correction = np.arctan2(vehicle_from_sensor[1, 0], vehicle_from_sensor[0, 0])
    return ((width - np.arange(width) - 0.5) / width * 2 - 1) * np.pi - correction


def rotations_from_angles(roll: Array, pitch: Array, yaw: Array) -> Array:
    """Rz(yaw) Ry(pitch) Rx(roll), (..., 3, 3)."""
    (cr, sr), (cp, sp), (cy, sy) = ((np.cos(a), np.sin(a)) for a in (roll, pitch, yaw))
    rows = [
        [cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr],
        [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr],
        [-sp, cp * sr, cp * cr],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def points_from_range_image(
    image: NDArray[np.float32],
    inclinations: Array,
    vehicle_from_sensor: Array,
    pixel_pose: NDArray[np.float32] | None = None,
    world_from_vehicle: Array | None = None,
) -> NDArray[np.float64]:
    """Points of all pixels with a return, by row, then by column.

    Args:
        image: (H, W, 4).
        inclinations: (H,) of the beams, the lowest first, as calibrations list them (rad).
        vehicle_from_sensor: (4, 4).
        pixel_pose: (H, W, 6) roll, pitch, yaw, x, y, z of the vehicle in the world when each pixel was measured; given
            for the top LiDAR, whose rotation takes as long as a frame.
        world_from_vehicle: (4, 4) at the time of the frame, to which `pixel_pose` moves the points.

    Returns:
        (P, 6): x, y, z in the vehicle frame (m), intensity, elongation, no-label zone.
    """
    row, column = np.nonzero(image[..., 0] > 0)
    pixel = image[row, column].astype(np.float64)
    azimuth = azimuths(image.shape[1], vehicle_from_sensor)[column]
    inclination = np.asarray(inclinations, dtype=np.float64)[::-1][row]
    flat = np.cos(inclination)
    direction = np.stack([np.cos(azimuth) * flat, np.sin(azimuth) * flat, np.sin(inclination)], axis=-1)
    points = (direction * pixel[:, :1]) @ vehicle_from_sensor[:3, :3].T + vehicle_from_sensor[:3, 3]
    if pixel_pose is not None:
        if world_from_vehicle is None:
            raise ValueError("pixel poses need the pose of the frame")
        pose = pixel_pose[row, column].astype(np.float64)
        turn = rotations_from_angles(pose[:, 0], pose[:, 1], pose[:, 2])
        in_world = np.einsum("nij,nj->ni", turn, points) + pose[:, 3:]
        vehicle_from_world = np.linalg.inv(world_from_vehicle)
        points = in_world @ vehicle_from_world[:3, :3].T + vehicle_from_world[:3, 3]
    return np.concatenate([points, pixel[:, 1:]], axis=1)


def pixels_of(points: ArrayLike, inclinations: Array, width: int, vehicle_from_sensor: Array) -> tuple[Array, ...]:
    """The pixel and the range of points in the vehicle frame: the inverse of the above without pixel poses.

    Args:
        points: (P, 3).
        inclinations: (H,) the lowest first.
        width: columns of the image.
        vehicle_from_sensor: (4, 4).

    Returns:
        row (P,) and column (P,) of the nearest beam and azimuth, and range (P,) in m.
    """
    sensor_from_vehicle = np.linalg.inv(vehicle_from_sensor)
    local = np.asarray(points, dtype=np.float64) @ sensor_from_vehicle[:3, :3].T + sensor_from_vehicle[:3, 3]
    distance = np.linalg.norm(local, axis=-1)
    inclination = np.arctan2(local[:, 2], np.hypot(local[:, 0], local[:, 1]))
    order = np.argsort(inclinations)
    middles = (inclinations[order][1:] + inclinations[order][:-1]) / 2
    row = len(inclinations) - 1 - order[np.searchsorted(middles, inclination)]
    correction = np.arctan2(vehicle_from_sensor[1, 0], vehicle_from_sensor[0, 0])
    turn = (np.arctan2(local[:, 1], local[:, 0]) + correction) / np.pi  # of the azimuth(j) above, over pi
    column = np.round((1 - turn) / 2 * width - 0.5).astype(np.int64) % width
    return row, column, distance
