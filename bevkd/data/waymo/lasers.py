"""Calibration of the lasers of a Waymo segment."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bevkd.data.valid import MOUNT_M, within
from bevkd.data.waymo.components import LASER, ComponentFile, numbers, transforms
from bevkd.data.waymo.range_image import uniform_inclinations
from bevkd.errors import DataError

RETURNS = ("range_image_return1", "range_image_return2")


@dataclass(frozen=True)
class Laser:
    """One laser.

    Attributes:
        vehicle_from_sensor: (4, 4).
        limits: least and largest inclination (rad).
        listed: inclination of every beam, the lowest first, where they are listed.
    """

    vehicle_from_sensor: NDArray[np.float64]
    limits: tuple[float, float]
    listed: NDArray[np.float64] | None

    def inclinations(self, height: int) -> NDArray[np.float64]:
        """Of the beams of a range image (height,), the lowest first; as many as are listed, if they are."""
        return uniform_inclinations(*self.limits, height) if self.listed is None else self.listed


def read_lasers(root: Path, segment: str) -> dict[int, Laser]:
    """The lasers of a segment by number.

    Raises:
        DataError: the component or a column is missing, or a laser has a pose or inclinations that make no sense.
    """
    file = ComponentFile.of(root, "lidar_calibration", segment)
    low, high, values = (f"beam_inclination.{part}" for part in ("min", "max", "values"))
    table = file.read([LASER, "extrinsic.transform", low, high, values])
    out = {}
    poses = transforms(table, "extrinsic.transform", file.path, MOUNT_M)
    limits = np.stack([numbers(table, low, file.path), numbers(table, high, file.path)], axis=-1)
    (lasers,) = file.keys(table, LASER)
    for i, (laser, beams) in enumerate(zip(lasers.tolist(), table[values].to_pylist(), strict=True)):
        listed = None
        if beams:
            numeric = isinstance(beams, list) and all(isinstance(beam, float | None) for beam in beams)
            listed = np.array(beams, dtype=np.float64) if numeric else np.full(1, np.nan)  # null entries become NaN
        if not within(limits[i] if listed is None else listed, np.pi / 2).all():
            message = "inclinations are missing or not finite, or larger than a right angle"
            raise DataError(message, file=file.path, token=segment, field=f"laser {laser}")
        out[laser] = Laser(poses[i], (limits[i, 0], limits[i, 1]), listed)
    return out
