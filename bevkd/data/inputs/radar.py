"""Radar points of all radars, earlier sweeps merged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from bevkd.data.batch import Batch
from bevkd.data.index import RADAR_SWEEPS
from bevkd.data.inputs.base import Change, InputReader
from bevkd.data.load import FrameLoader, RawFrame
from bevkd.data.radar import merge_radar, read_radar
from bevkd.data.reads import Radar, RadarPoints
from bevkd.data.sample import Sample, flat
from bevkd.errors import ConfigError
from bevkd.registry import register

D = TypeVar("D", bound=RadarPoints)
Read = Callable[[Path, str], NDArray[np.float32]]


class RadarSweeps(InputReader[D]):
    """Base class of readers that merge the sweeps of all radars."""

    def __init__(self, declared: D, loader: FrameLoader) -> None:
        super().__init__(declared, loader)
        if declared.sweeps > RADAR_SWEEPS:
            raise ConfigError(f"data.radar_sweeps reach back {declared.sweeps} sweeps, an index lists {RADAR_SWEEPS}")

    def merged(self, frame: int, read: Read, advance: bool = False, states: int = 0) -> NDArray[np.float32]:
        """Points (R, 7 + states) in the ego frame of the keyframe, see `merge_radar`."""
        loader = self.loader
        sensors = loader.index.sensors
        at = loader.radar_records(frame, self.declared.sweeps)
        clouds = [read(loader.inside.path(sensors.filename[i], sensors.token[i]), sensors.token[i]) for i in at]
        poses, ages = loader.ego_from_sensor(frame, at), loader.ages(frame, at)
        sweeps = [(p, m, float(t)) for p, m, t in zip(clouds, poses, ages, strict=True)]
        return merge_radar(sweeps, advance, states)


@register("input", "radar")
class RadarReader(RadarSweeps[Radar]):
    """`radar`: position, cross-section, compensated velocity and age; invalid and ambiguous points are left out."""

    def load(self, frame: int, raw: RawFrame) -> None:
        """Merged sweeps in the ego frame of the keyframe."""
        raw.radar = self.merged(frame, read_radar)

    def augment(self, frame: int, raw: RawFrame, sample: Sample, change: Change) -> None:
        """Points moved, and cut to the area; velocities turned."""
        assert raw.radar is not None
        sample.radar = change.points(raw.radar)
        sample.radar[:, 4:6] = sample.radar[:, 4:6] @ change.matrix[:2, :2].T.astype(np.float32)

    @staticmethod
    def collate(samples: Sequence[Sample], batch: Batch) -> None:
        """`radar` and `radar_frame`."""
        batch.radar, batch.radar_frame = flat([s.radar for s in samples])

    @staticmethod
    def example(declared: Radar, batch: Batch, reach: float, returns: int) -> None:
        """Some 50 returns of each of five radars."""
        points, generator = 250 * (1 + declared.sweeps), torch.Generator().manual_seed(0)
        batch.radar = torch.randn(points, 7, generator=generator)
        batch.radar[:, :2] *= reach / 2
        batch.radar_frame = torch.zeros(points, dtype=torch.long)
