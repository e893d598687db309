"""One segment of the Waymo Open Dataset v2, opened for its frames' points and images."""

from __future__ import annotations

from functools import cached_property
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from bevkd.data.pictures import as_rgb, picture
from bevkd.data.valid import FARTHEST_M, GLOBAL_M
from bevkd.data.waymo.components import CAMERA, LASER, TIME, TOP, ComponentFile, transforms
from bevkd.data.waymo.lasers import RETURNS, Laser, read_lasers
from bevkd.data.waymo.range_image import points_from_range_image
from bevkd.errors import DataError

_RANGES = 4  # channels of a range image


class Segment:
    """Random access to the frames of a segment; nothing is read before it is needed.

    Args:
        root: folder of the data set.
        name: `<split folder>/<segment>`.
    """

    def __init__(self, root: Path, name: str) -> None:
        self.root, self.name = root, name

    @cached_property
    def _lidar(self) -> tuple[ComponentFile, NDArray[np.int64]]:
        return self._keyed("lidar")

    @cached_property
    def _lidar_pose(self) -> tuple[ComponentFile, NDArray[np.int64]]:
        return self._keyed("lidar_pose")

    @cached_property
    def _images(self) -> tuple[ComponentFile, NDArray[np.int64], NDArray[np.int64]]:
        file = ComponentFile.of(self.root, "camera_image", self.name)
        times, cameras = file.keys(file.read([TIME, CAMERA]), TIME, CAMERA)
        return file, times, cameras

    def _keyed(self, component: str) -> tuple[ComponentFile, NDArray[np.int64]]:
        file = ComponentFile.of(self.root, component, self.name)
        return file, file.keys(file.read([TIME, LASER]), TIME, LASER)[0]

    @cached_property
    def _poses(self) -> dict[int, NDArray[np.float64]]:
        file = ComponentFile.of(self.root, "vehicle_pose", self.name)
        table = file.read([TIME, "world_from_vehicle.transform"])
        poses = transforms(table, "world_from_vehicle.transform", file.path, GLOBAL_M)
        (times,) = file.keys(table, TIME)
        return dict(zip(times.tolist(), poses, strict=True))

    @cached_property
    def _lasers(self) -> dict[int, Laser]:
        return read_lasers(self.root, self.name)

    def points(self, timestamp: int) -> NDArray[np.float64]:
        """Points (P, 6) of all lasers and both returns of a frame, first all first returns of each laser.

        Columns: x, y, z in the vehicle frame at the time of the frame (m), intensity, elongation, no-label zone.

        Raises:
            DataError: a component, row or calibration is missing, or an image has another shape than it says.
        """
        file, times = self._lidar
        frame = f"{self.name}/{timestamp}"
        fields = [f"{name}.{part}" for name in RETURNS for part in ("values", "shape")]
        table = file.rows(np.flatnonzero(times == timestamp), [LASER, *fields], frame)
        if timestamp not in self._poses:
            path = ComponentFile.of(self.root, "vehicle_pose", self.name).path
            raise DataError("component has no row for the frame", file=path, token=frame)
        pixel_pose = self._pixel_pose(timestamp, frame)
        parts = []
        for i, laser in enumerate(table[LASER].to_pylist()):
            if laser not in self._lasers:
                path = ComponentFile.of(self.root, "lidar_calibration", self.name).path
                raise DataError("calibration is missing", file=path, token=frame, field=f"laser {laser}")
            mount = self._lasers[laser]
            for name in RETURNS:
                image = _image(table, name, i, _RANGES, file.path, frame)
                if image is None:
                    continue
                beams = mount.inclinations(len(image))
                if len(beams) != len(image):
                    message = f"{len(beams)} beams are calibrated, the range image has {len(image)} rows"
                    raise DataError(message, file=file.path, token=frame, field=f"laser {laser}")
                pose = pixel_pose if laser == TOP else None
                if pose is not None and pose.shape[:2] != image.shape[:2]:
                    raise DataError("pixel poses have another shape", file=file.path, token=frame, field=name)
                matrix, ego = mount.vehicle_from_sensor, self._poses[timestamp]
                parts.append(points_from_range_image(image, beams, matrix, pose, ego))
        return np.concatenate(parts) if parts else np.zeros((0, 6))

    def _pixel_pose(self, timestamp: int, frame: str) -> NDArray[np.float32]:
        """The vehicle's pose (H, W, 6) at every pixel of the top laser."""
        file, times = self._lidar_pose
        name = RETURNS[0]
        table = file.rows(np.flatnonzero(times == timestamp), [LASER, f"{name}.values", f"{name}.shape"], frame)
        of_top = [i for i, laser in enumerate(table[LASER].to_pylist()) if laser == TOP]
        found = _image(table, name, of_top[0], 6, file.path, frame) if of_top else None
        if found is None:
            raise DataError("pixel poses are missing", file=file.path, token=frame, field=f"laser {TOP}")
        return found

    def has_image(self, timestamp: int, camera: int) -> bool:
        """Whether a camera took a picture of a frame."""
        _, times, cameras = self._images
        return bool(((times == timestamp) & (cameras == camera)).any())

    def image(self, timestamp: int, camera: int) -> Image.Image:
        """The picture of one camera, RGB.

        Raises:
            DataError: it is missing or unreadable.
        """
        file, times, cameras = self._images
        frame = f"{self.name}/{timestamp}"
        at = np.flatnonzero((times == timestamp) & (cameras == camera))
        if len(at) == 0:
            raise DataError("image is missing", file=file.path, token=frame, field=f"camera {camera}")
        found = file.rows(at[:1], ["image"], frame)["image"][0].as_py()
        if not isinstance(found, bytes):
            raise DataError("unreadable image: it is none", file=file.path, token=frame, field=f"camera {camera}")
        with picture(BytesIO(found), file.path, frame, f"camera {camera}") as one:
            return as_rgb(one)


def _image(table: pa.Table, name: str, row: int, channels: int, path: Path, frame: str) -> NDArray[np.float32] | None:
    """A range image (H, W, channels); None where the laser has none."""
    values, shape = table[f"{name}.values"][row], table[f"{name}.shape"][row].as_py()
    if not values.is_valid or not shape:
        return None
    kinds = [type(side) for side in shape] if isinstance(shape, list) else []
    kind = getattr(values.type, "value_type", None)
    if kinds != [int] * 3 or min(shape) <= 0 or kind is None or not pa.types.is_floating(kind):
        raise DataError(f"not an image of shape {shape}", file=path, token=frame, field=name)
    flat = values.values.to_numpy(zero_copy_only=False).astype(np.float32, copy=False)
    if shape[2] != channels or len(flat) != shape[0] * shape[1] * shape[2]:
        raise DataError(f"{len(flat)} values do not make an image of shape {shape}", file=path, token=frame, field=name)
    # Of pixel poses the first three channels are angles, the others places in the world; else the first is a range.
    image = flat.reshape(shape)
    if not np.isfinite(flat).all():
        raise DataError("range image holds values that are not finite", file=path, token=frame, field=name)
    if not max(image.max(), -image.min()) <= GLOBAL_M or (channels == _RANGES and image[..., 0].max() > FARTHEST_M):
        raise DataError("range image holds values that cannot be", file=path, token=frame, field=name)
    return image
