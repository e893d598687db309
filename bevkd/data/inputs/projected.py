"""LiDAR points of the key sweep as the cameras see them: what depth targets and LiDAR images have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from bevkd.data.batch import Batch
from bevkd.data.depth import depth_map
from bevkd.data.inputs.base import Change, InputReader
from bevkd.data.load import RawFrame
from bevkd.data.points import transform
from bevkd.data.reads import Projected
from bevkd.data.sample import Sample, present


class ProjectedReader(InputReader[Projected]):
    """Base class of readers that fill a field of the cameras with depths (m).

    Attributes:
        field: its name, in `CameraSample` and in `Cameras`.
    """

    field: ClassVar[str]

    def load(self, frame: int, raw: RawFrame) -> None:
        """The key sweep in the ego frame of the keyframe, unless it was loaded with the merged points."""
        if raw.key_points is None:
            at, sensors = self.loader.records(frame, "lidar")[:1], self.loader.index.sensors
            sweep = self.loader.files.lidar(sensors.filename[at[0]], sensors.token[at[0]])
            raw.key_points = transform(sweep, self.loader.ego_from_sensor(frame, at)[0])

    def augment(self, frame: int, raw: RawFrame, sample: Sample, change: Change) -> None:
        """A map per camera, at the declared stride."""
        maps = self._once(frame, change, lambda: self._project(raw, sample))
        setattr(sample.cameras, self.field, maps)

    def _project(self, raw: RawFrame, sample: Sample) -> NDArray[np.float32]:
        assert raw.images is not None
        assert raw.intrinsics is not None
        assert raw.ego_from_camera is not None
        assert raw.key_points is not None
        assert sample.cameras is not None
        _, height, width, _ = sample.cameras.images.shape
        maps = []
        for n, source in enumerate(raw.images):
            size = (source.height, source.width)
            place = (raw.ego_from_camera[n], raw.intrinsics[n], sample.cameras.image_aug[n])
            maps.append(depth_map(raw.key_points, *place, size, (height, width), self.declared.stride))
        return np.stack(maps)

    @classmethod
    def collate(cls, samples: Sequence[Sample], batch: Batch) -> None:  # type: ignore[override]
        """The field of `cameras`."""
        maps: list[Any] = present([getattr(s.cameras, cls.field) for s in samples])
        setattr(batch.cameras, cls.field, torch.from_numpy(np.stack(maps)))

    @classmethod
    def example(cls, declared: Projected, batch: Batch, reach: float, returns: int) -> None:  # type: ignore[override]
        """Random depths at one pixel in ten."""
        assert batch.cameras is not None
        *_, height, width = batch.cameras.images.shape
        shape = (*batch.cameras.images.shape[:2], height // declared.stride, width // declared.stride)
        generator = torch.Generator().manual_seed(0)
        seen = torch.rand(shape, generator=generator) < 0.1
        setattr(batch.cameras, cls.field, torch.where(seen, reach * torch.rand(shape, generator=generator), 0.0))
