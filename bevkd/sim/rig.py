"""The sensor rig of the recording vehicle: channels, mounting, intrinsics, and when each sensor of a keyframe fires."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from bevkd.geometry.transforms import rotation_from_quaternion
from bevkd.sim.config import CameraConfig

Array = NDArray[np.float64]

LIDAR = "LIDAR_TOP"
# Mounting after the real vehicles: channel -> (x, y, z) in m and yaw in degrees, ego frame.
CAMERAS: dict[str, tuple[tuple[float, float, float], float]] = {
    "CAM_FRONT": ((1.70, 0.02, 1.51), 0.0),
    "CAM_FRONT_RIGHT": ((1.55, -0.49, 1.50), -55.0),
    "CAM_BACK_RIGHT": ((1.01, -0.48, 1.56), -110.0),
    "CAM_BACK": ((0.03, 0.0, 1.57), 180.0),
    "CAM_BACK_LEFT": ((1.04, 0.48, 1.56), 110.0),
    "CAM_FRONT_LEFT": ((1.52, 0.49, 1.51), 55.0),
}
RADARS: dict[str, tuple[tuple[float, float, float], float]] = {
    "RADAR_FRONT": ((3.41, 0.0, 0.5), 0.0),
    "RADAR_FRONT_LEFT": ((2.42, 0.8, 0.78), 92.0),
    "RADAR_FRONT_RIGHT": ((2.42, -0.8, 0.77), -92.0),
    "RADAR_BACK_LEFT": ((-0.56, 0.63, 0.53), 175.0),
    "RADAR_BACK_RIGHT": ((-0.56, -0.62, 0.53), -175.0),
}
_LIDAR_MOUNT = (0.94, 0.0, 1.84)

CHANNELS: dict[str, str] = {
    LIDAR: "lidar",
    **dict.fromkeys(CAMERAS, "camera"),
    **dict.fromkeys(RADARS, "radar"),
}

# Microseconds from the LiDAR time stamp (end of the rotation) to the exposure of each camera: the beam passes the
# cameras in turn. Radars run freely; these are typical lags.
OFFSETS_US: dict[str, int] = {
    LIDAR: 0,
    "CAM_FRONT_LEFT": -43_000,
    "CAM_FRONT": -35_500,
    "CAM_FRONT_RIGHT": -27_600,
    "CAM_BACK_RIGHT": -20_000,
    "CAM_BACK": -10_400,
    "CAM_BACK_LEFT": -500,
    "RADAR_FRONT": -12_000,
    "RADAR_FRONT_LEFT": -21_000,
    "RADAR_FRONT_RIGHT": -6_000,
    "RADAR_BACK_LEFT": -31_000,
    "RADAR_BACK_RIGHT": -17_000,
}

# Quaternion from camera axes (x right, y down, z forward) to a frame that looks along x, with y left and z up.
_CAMERA_AXES = (0.5, -0.5, 0.5, -0.5)

Quaternion = tuple[float, float, float, float]


@dataclass(frozen=True)
class Calibration:
    """Mounting of one sensor exactly as the tables store it; `intrinsics` (3, 3) for cameras only."""

    channel: str
    translation: tuple[float, float, float]
    quaternion: Quaternion
    intrinsics: Array | None

    @cached_property
    def ego_from_sensor(self) -> Array:
        """Rotation (3, 3)."""
        return rotation_from_quaternion(self.quaternion)


def _product(p: Quaternion, q: Quaternion) -> Quaternion:
    """Hamilton product: the rotation `q` followed by `p`."""
    (a, b, c, d), (e, f, g, h) = p, q
    return (
        a * e - b * f - c * g - d * h,
        a * f + b * e + c * h - d * g,
        a * g - b * h + c * e + d * f,
        a * h + b * g - c * f + d * e,
    )


def _rotation(roll: float, pitch: float, yaw: float) -> Quaternion:
    """Roll about x, then pitch about y, then yaw about z."""
    (cr, sr), (cp, sp), (cy, sy) = ((float(np.cos(a / 2)), float(np.sin(a / 2))) for a in (roll, pitch, yaw))
    return _product(_product((cy, 0.0, 0.0, sy), (cp, 0.0, sp, 0.0)), (cr, sr, 0.0, 0.0))


def calibrate(camera: CameraConfig, rng: np.random.Generator) -> dict[str, Calibration]:
    """One vehicle's calibration: the nominal rig with centimetres and tenths of a degree of mounting error."""
    out: dict[str, Calibration] = {}
    mounts = {LIDAR: (_LIDAR_MOUNT, -90.0), **CAMERAS, **RADARS}
    for channel, modality in CHANNELS.items():
        position, yaw_deg = mounts[channel]
        tilt = rng.normal(0.0, np.deg2rad(0.25 if modality != "radar" else 0.05), 3)
        rotation = _rotation(tilt[0], tilt[1], np.deg2rad(yaw_deg) + tilt[2])
        intrinsics = None
        if modality == "camera":
            rotation = _product(rotation, _CAMERA_AXES)
            intrinsics = _intrinsics(camera, channel, rng)
        translation = np.asarray(position) + rng.normal(0.0, 0.01, 3)
        x, y, z = (round(float(v), 6) for v in translation)
        out[channel] = Calibration(channel, (x, y, z), rotation, intrinsics)
    return out


def _intrinsics(camera: CameraConfig, channel: str, rng: np.random.Generator) -> Array:
    fov = camera.fov_back_deg if channel == "CAM_BACK" else camera.fov_deg
    focal = camera.width / 2 / np.tan(np.deg2rad(fov) / 2) * float(rng.normal(1.0, 0.003))
    centre_x = camera.width / 2 + float(rng.normal(0, 0.004)) * camera.width
    centre_y = camera.height * (camera.horizon + float(rng.normal(0, 0.004)))
    return np.round(np.array([[focal, 0, centre_x], [0, focal, centre_y], [0, 0, 1]]), 6)
