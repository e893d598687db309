"""LiDAR points: the key sweep merged with earlier ones."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from bevkd.data.batch import Batch
from bevkd.data.index import LIDAR_SWEEPS
from bevkd.data.inputs.base import Change, InputReader
from bevkd.data.load import FrameLoader, RawFrame
from bevkd.data.points import merge_sweeps
from bevkd.data.reads import Lidar, Projected
from bevkd.data.sample import Sample, flat
from bevkd.errors import ConfigError
from bevkd.registry import register


def sweep_records(loader: FrameLoader, frame: int, sweeps: int, stride: int) -> list[int]:
    """Positions in the index's sensors of the key sweep of a frame and of earlier ones, newest first.

    Args:
        loader: of the index.
        frame: of the index.
        sweeps: most earlier ones.
        stride: take every k-th of them.
    """
    previous = loader.index.lidar_sweeps[frame][stride - 1 :: stride]
    position = loader.index.sensors.position
    return loader.records(frame, "lidar")[:1] + [position[row] for row in previous[:sweeps]]


@register("input", "lidar")
class LidarReader(InputReader[Lidar]):
    """`points`; where something is made of the key sweep alone also `RawFrame.key_points`."""

    pastes = True

    def __init__(self, declared: Lidar, loader: FrameLoader) -> None:
        super().__init__(declared, loader)
        if (reach := declared.sweeps * declared.stride) > LIDAR_SWEEPS:
            raise ConfigError(f"data.lidar_sweeps reach back {reach} sweeps, an index lists {LIDAR_SWEEPS}")
        self._key_points = any(isinstance(one, Projected) for one in loader.reads.inputs)

    def load(self, frame: int, raw: RawFrame) -> None:
        """Merged sweeps in the ego frame of the keyframe."""
        loader, wanted = self.loader, self.declared
        sensors = loader.index.sensors
        at = sweep_records(loader, frame, wanted.sweeps, wanted.stride)
        sweeps = [loader.files.lidar(sensors.filename[i], sensors.token[i]) for i in at]
        poses, ages = loader.ego_from_sensor(frame, at), loader.ages(frame, at)
        merged = merge_sweeps([(p, m, float(t)) for p, m, t in zip(sweeps, poses, ages, strict=True)], wanted.sweeps)
        raw.points = merged[loader.seen(frame, merged, "data.lidar_in_view")] if wanted.in_view else merged
        raw.key_points = merged[: len(sweeps[0])] if self._key_points else None

    def augment(self, frame: int, raw: RawFrame, sample: Sample, change: Change) -> None:
        """Points moved, and cut to the area."""
        assert raw.points is not None
        sample.points = change.points(raw.points)

    @staticmethod
    def collate(samples: Sequence[Sample], batch: Batch) -> None:
        """`points` and `point_frame`."""
        batch.points, batch.point_frame = flat([s.points for s in samples])

    @staticmethod
    def example(declared: Lidar, batch: Batch, reach: float, returns: int) -> None:
        """Returns as dense near the vehicle as those of a real sweep."""
        points, generator = returns * (1 + declared.sweeps), torch.Generator().manual_seed(0)
        radius = reach * torch.rand(points, generator=generator) ** 2  # returns thin out with distance
        angle = 2 * math.pi * torch.rand(points, generator=generator)
        z = 2 * torch.rand(points, generator=generator).square() - 0.1
        rest = [255 * torch.rand(points, generator=generator), 0.5 * torch.rand(points, generator=generator)]
        batch.points = torch.stack([radius * angle.cos(), radius * angle.sin(), z, *rest], dim=1)
        batch.point_frame = torch.zeros(points, dtype=torch.long)
