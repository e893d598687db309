"""One frame as plain arrays, checked, and made what the readers of a data set would have made of its files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, TypeAlias, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from bevkd.data.inputs.base import Change
from bevkd.data.load import FrameLoader, RawFrame
from bevkd.data.points import Points, in_view, merge_sweeps
from bevkd.data.reads import Camera, Lidar, Projected, Reads
from bevkd.data.sample import Sample
from bevkd.errors import ConfigError, nearest
from bevkd.geometry import Area
from bevkd.registry import lookup

Arrays: TypeAlias = ArrayLike | Sequence[ArrayLike]
_KEYS = ("intrinsics", "ego_from_camera", "ego_from_lidar", "image_size")
_OLDEST_S = 10.0  # no detector looks back further; ring numbers, mistaken for ages, do
_ROUNDED = 1e-3  # how far the axes of a published pose may be from orthonormal


class PlainFrame:
    """Checks the arrays of one frame against what a network reads.

    Args:
        reads: what it reads.
        points, images, calibration, ages: as of `Model.predict`.

    Raises:
        ConfigError: what the network reads is missing, or an array cannot be what it is given for.
    """

    def __init__(
        self,
        reads: Reads,
        points: Arrays | None,
        images: Arrays | None,
        calibration: Mapping[str, Any] | None,
        ages: ArrayLike | None,
    ) -> None:
        self.reads, self.calibration = reads, dict(calibration or {})
        for key in self.calibration:
            if key not in _KEYS:
                raise ConfigError(f"calibration: unknown key {key!r}{nearest(key, _KEYS)}; known: {', '.join(_KEYS)}")
        self.raw = RawFrame()
        if reads.get(Camera) is not None:
            self.raw.images = _pictures(_given("images", images))
            self._read_cameras(len(self.raw.images))
            _check_principal_points(self.raw)
        if "lidar" in reads.sensors:
            self._read_points(_given("points", points), ages)

    def _calibration(self, key: str, shape: tuple[int, ...]) -> NDArray[np.float64]:
        if key not in self.calibration:
            raise ConfigError(f"calibration lacks {key!r}, an array of shape {shape}")
        return _finite(f"calibration[{key!r}]", self.calibration[key], shape)

    def _read_cameras(self, count: int) -> None:
        self.raw.intrinsics = self._calibration("intrinsics", (count, 3, 3))
        if not np.allclose(self.raw.intrinsics[:, 2], [0, 0, 1]):
            raise ConfigError("calibration['intrinsics']: the last row of each is 0, 0, 1")
        self.raw.ego_from_camera = self._calibration("ego_from_camera", (count, 4, 4))
        _check_poses("ego_from_camera", self.raw.ego_from_camera)

    def _read_points(self, points: Arrays, ages: ArrayLike | None) -> None:
        lidar = self.reads.get(Lidar)
        if isinstance(points, list | tuple):
            merged, key = self._sweeps([_cloud(f"points[{n}]", one) for n, one in enumerate(points)], ages, lidar)
        else:
            merged, key = self._one_array(points, ages, lidar)
        if lidar is not None:
            self.raw.points = merged[self._in_view(merged)] if lidar.in_view else merged
        if any(isinstance(one, Projected) for one in self.reads.inputs):
            self.raw.key_points = key

    def _one_array(self, points: Arrays, ages: ArrayLike | None, lidar: Lidar | None) -> tuple[Points, Points]:
        """Merged points and those of the key sweep, of one array: a sweep, or several with ages in a fifth column."""
        cloud = _cloud("points", points)
        if cloud.shape[1] == 4:
            return self._sweeps([cloud], ages, lidar)
        if ages is not None:
            raise ConfigError("ages belong to a list of sweeps; here they are the fifth column of points")
        age = cloud[:, 4]
        if len(age) and not (age.min() >= 0 and age.max() <= _OLDEST_S):
            raise ConfigError(
                f"points: the fifth column is the age of each point, 0 to {_OLDEST_S:g} s, here {age.min():g} to"
                f" {age.max():g}; if it is a ring number, give points[:, :4]"
            )
        merged = merge_sweeps([(cloud, self._ego_from_lidar(1)[0], 0.0)], 0)
        merged[:, 4] = age
        return merged, merged[age == 0]

    def _sweeps(self, sweeps: list[Points], ages: ArrayLike | None, lidar: Lidar | None) -> tuple[Points, Points]:
        wanted = 0 if lidar is None else lidar.sweeps
        if not sweeps:
            raise ConfigError("points: an empty list of sweeps; a sweep without points is an array of shape (0, 4)")
        if len(sweeps) > 1 + wanted and lidar is not None:
            raise ConfigError(f"points: {len(sweeps)} sweeps, this model reads the key sweep and {wanted} earlier ones")
        if ages is None and len(sweeps) > 1:
            raise ConfigError(f"ages: {len(sweeps)} sweeps want as many ages (s), the key sweep's first")
        older = np.zeros(1) if ages is None else _finite("ages", ages, (len(sweeps),))
        if (np.diff(older) < 0).any() or older[0] < 0 or older[-1] > _OLDEST_S:
            raise ConfigError(f"ages: seconds before the frame, 0 to {_OLDEST_S:g}, newest first, not {older.tolist()}")
        poses = self._ego_from_lidar(len(sweeps))
        parts = [(cloud, pose, float(age)) for cloud, pose, age in zip(sweeps, poses, older, strict=True)]
        merged = merge_sweeps(parts, wanted)
        return merged, merged[: len(sweeps[0])]

    def _ego_from_lidar(self, count: int) -> NDArray[np.float64]:
        if "ego_from_lidar" not in self.calibration:
            if count > 1:
                raise ConfigError(f"calibration lacks 'ego_from_lidar', an array of shape {(count, 4, 4)}")
            return np.eye(4)[None]
        given = np.asarray(self.calibration["ego_from_lidar"])
        shape = (count, 4, 4) if count > 1 or given.ndim == 3 else (4, 4)
        poses = self._calibration("ego_from_lidar", shape).reshape(count, 4, 4)
        _check_poses("ego_from_lidar", poses)
        return poses

    def _in_view(self, points: Points) -> NDArray[np.bool_]:
        """Which points some camera sees: the model learnt from no others."""
        if self.raw.images is not None:
            sizes = np.array([image.size for image in self.raw.images])
        else:
            if "image_size" not in self.calibration:
                raise ConfigError(
                    "this model reads what its cameras see (data.lidar_in_view): calibration wants 'image_size' (n, 2),"
                    " width and height, beside 'intrinsics' and 'ego_from_camera'"
                )
            count = len(np.atleast_1d(np.asarray(self.calibration["image_size"])))
            sizes = self._calibration("image_size", (count, 2)).astype(np.int64)
            self._read_cameras(count)
        assert self.raw.intrinsics is not None
        assert self.raw.ego_from_camera is not None
        return in_view(points, self.raw.ego_from_camera, self.raw.intrinsics, sizes)

    def sample(self, area: Area) -> Sample:
        """The frame as readers give it at test time."""
        sample = Sample(
            token="frame",
            variant=0,
            labelled=True,
            bev_aug=np.eye(4),
            boxes=np.zeros((0, 9)),
            labels=np.zeros(0, dtype=np.int64),
            inputs=self.reads.names,
        )
        # Readers look up records of an index while they load, and nothing is loaded here.
        nothing = cast(FrameLoader, SimpleNamespace(reads=self.reads))
        change = Change(np.eye(4), area)
        for one in self.reads.inputs:
            lookup("input", one.name)(one, nothing).augment(0, self.raw, sample, change)
        return sample


def _given(name: str, value: Arrays | None) -> Arrays:
    if value is None:
        raise ConfigError(f"this model reads {name}, and none are given")
    return value


def _finite(name: str, value: Any, shape: tuple[int, ...]) -> NDArray[np.float64]:
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise ConfigError(f"{name}: wants numbers of shape {shape}") from None
    if array.shape != shape:
        raise ConfigError(f"{name}: wants shape {shape}, got {array.shape}")
    if not np.isfinite(array).all():
        raise ConfigError(f"{name}: holds a value that is not finite")
    return array


def _cloud(name: str, value: Any) -> Points:
    try:
        cloud = np.asarray(value, dtype=np.float32)
    except (TypeError, ValueError):
        raise ConfigError(f"{name}: wants numbers of shape (N, 4)") from None
    if cloud.ndim != 2 or cloud.shape[1] < 4:
        raise ConfigError(f"{name}: wants shape (N, 4), x, y, z, intensity, got {cloud.shape}")
    if not np.isfinite(cloud[:, :5]).all():
        raise ConfigError(f"{name}: holds points that are not finite")
    return cloud


def _pictures(images: Arrays) -> list[Image.Image]:
    out = []
    for n, one in enumerate(cast(Sequence[Any], images)):
        array = np.asarray(one)
        if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3:
            raise ConfigError(f"images[{n}]: wants RGB bytes, uint8 (H, W, 3), got {array.dtype} {array.shape}")
        out.append(Image.fromarray(np.ascontiguousarray(array)))
    if not out:
        raise ConfigError("images: none are given")
    return out


def _check_principal_points(raw: RawFrame) -> None:
    """Calibrations of images of another size are the commonest mistake, and give plausible boxes in wrong places."""
    assert raw.images is not None
    assert raw.intrinsics is not None
    for n, (image, matrix) in enumerate(zip(raw.images, raw.intrinsics, strict=True)):
        x, y = matrix[0, 2], matrix[1, 2]
        if not (0 < x < image.width and 0 < y < image.height):
            raise ConfigError(
                f"calibration['intrinsics'][{n}]: the principal point ({x:g}, {y:g}) lies outside of the image of"
                f" {image.width} x {image.height} pixels: intrinsics are those of the image as it is given"
            )


def _check_poses(name: str, poses: NDArray[np.float64]) -> None:
    turn = poses[:, :3, :3]
    upright = np.abs(turn @ turn.transpose(0, 2, 1) - np.eye(3)).max(axis=(1, 2)) < _ROUNDED
    if not upright.all() or not np.allclose(poses[:, 3], [0, 0, 0, 1]) or (np.linalg.det(turn) < 0).any():
        raise ConfigError(f"calibration[{name!r}]: each is a 4 x 4 matrix of a rotation and a translation")
