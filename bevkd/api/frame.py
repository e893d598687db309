"""One frame as plain arrays, checked, and made what the readers of a data set would have made of its files."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bevkd.api.checks import (
    Arrays,
    check_axes,
    check_intrinsics,
    check_poses,
    check_principal_points,
    cloud,
    finite,
    given,
    pictures,
    sweeps_of,
)
from bevkd.data.inputs.base import Change
from bevkd.data.load import FrameLoader, RawFrame
from bevkd.data.points import Points, in_view, merge_sweeps
from bevkd.data.reads import Camera, Lidar, Projected, Reads
from bevkd.data.sample import Sample
from bevkd.errors import ConfigError, nearest
from bevkd.geometry import Area
from bevkd.registry import lookup

_KEYS = ("intrinsics", "ego_from_camera", "ego_from_lidar", "image_size")
_OLDEST_S = 10.0  # no detector looks back further; ring numbers, mistaken for ages, do


class PlainFrame:
    """Checks the arrays of one frame against what a network reads.

    Args:
        reads: what it reads.
        points, images, calibration, ages: as of `Model.predict`.
        most_intensity: that the format of its data set holds.

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
        most_intensity: float = math.inf,
    ) -> None:
        if calibration is not None and not isinstance(calibration, Mapping):
            raise ConfigError(f"calibration: wants a mapping with {', '.join(_KEYS)}, got {type(calibration).__name__}")
        self.reads, self.calibration, self._most = reads, dict(calibration or {}), most_intensity
        for key in self.calibration:
            if key not in _KEYS:
                raise ConfigError(f"calibration: unknown key {key!r}{nearest(key, _KEYS)}; known: {', '.join(_KEYS)}")
        self.raw = RawFrame()
        if reads.get(Camera) is not None:
            self.raw.images = pictures(given("images", images))
            self._read_cameras(len(self.raw.images))
            check_principal_points(self.raw)
        if "lidar" in reads.sensors:
            self._read_points(given("points", points), ages)

    def _calibration(self, key: str, shape: tuple[int, ...]) -> NDArray[np.float64]:
        if key not in self.calibration:
            raise ConfigError(f"calibration lacks {key!r}, an array of shape {shape}")
        return finite(f"calibration[{key!r}]", self.calibration[key], shape)

    def _read_cameras(self, count: int) -> None:
        self.raw.intrinsics = self._calibration("intrinsics", (count, 3, 3))
        check_intrinsics(self.raw.intrinsics)
        self.raw.ego_from_camera = self._calibration("ego_from_camera", (count, 4, 4))
        check_poses("ego_from_camera", self.raw.ego_from_camera)
        check_axes(self.raw.ego_from_camera)

    def _read_points(self, points: Arrays, ages: ArrayLike | None) -> None:
        lidar = self.reads.get(Lidar)
        sweeps = sweeps_of(points)
        if sweeps is not None:
            clouds = [cloud(f"points[{n}]", one, self._most) for n, one in enumerate(sweeps)]
            merged, key = self._sweeps(clouds, ages, lidar)
        else:
            merged, key = self._one_array(points, ages, lidar)
        if lidar is not None:
            self.raw.points = merged[self._in_view(merged)] if lidar.in_view else merged
        if any(isinstance(one, Projected) for one in self.reads.inputs):
            self.raw.key_points = key

    def _one_array(self, points: Arrays, ages: ArrayLike | None, lidar: Lidar | None) -> tuple[Points, Points]:
        """Merged points and those of the key sweep, of one array: a sweep, or several with ages in a fifth column."""
        sweeps = cloud("points", points, self._most)
        if sweeps.shape[1] == 4:
            return self._sweeps([sweeps], ages, lidar)
        if sweeps.shape[1] > 5:
            raise ConfigError(f"points: wants (N, 4), or (N, 5) with the age of each point, got {sweeps.shape}")
        if ages is not None:
            raise ConfigError("ages belong to a list of sweeps; here they are the fifth column of points")
        age = sweeps[:, 4]
        if len(age) and not (age.min() >= 0 and age.max() <= _OLDEST_S):  # not a number fails both
            raise ConfigError(
                f"points: the fifth column is the age of each point, 0 to {_OLDEST_S:g} s, here {age.min():g} to"
                f" {age.max():g}; if it is a ring number, give points[:, :4]"
            )
        merged = merge_sweeps([(sweeps, self._ego_from_lidar(1)[0], 0.0)], 0)
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
        older = np.zeros(1) if ages is None else finite("ages", ages, (len(sweeps),))
        if (np.diff(older) < 0).any() or older[0] < 0 or older[-1] > _OLDEST_S:
            raise ConfigError(f"ages: seconds before the frame, 0 to {_OLDEST_S:g}, newest first, not {older.tolist()}")
        poses = self._ego_from_lidar(len(sweeps))
        parts = [(points, pose, float(age)) for points, pose, age in zip(sweeps, poses, older, strict=True)]
        merged = merge_sweeps(parts, wanted)
        return merged, merged[: len(sweeps[0])]

    def _ego_from_lidar(self, count: int) -> NDArray[np.float64]:
        if "ego_from_lidar" not in self.calibration:
            if count > 1:
                raise ConfigError(f"calibration lacks 'ego_from_lidar', an array of shape {(count, 4, 4)}")
            return np.eye(4)[None]
        stacked = np.ndim(self.calibration["ego_from_lidar"]) == 3
        shape = (count, 4, 4) if count > 1 or stacked else (4, 4)
        poses = self._calibration("ego_from_lidar", shape).reshape(count, 4, 4)
        check_poses("ego_from_lidar", poses)
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
