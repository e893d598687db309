"""Radar points of all radars with the states that the sensor gives them, earlier sweeps merged (CRKD spec, 2.3)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from bevkd.data.batch import Batch
from bevkd.data.inputs.base import Change
from bevkd.data.inputs.radar import RadarSweeps
from bevkd.data.load import RawFrame
from bevkd.data.radar import EVERY_STATE, FEATURES, STATES, RadarFilter, read_radar_states, state_features
from bevkd.data.reads import RadarFeatures
from bevkd.data.sample import Sample, flat, present
from bevkd.registry import register

KEY = "radar_features"


@register("input", KEY)
class RadarFeaturesReader(RadarSweeps[RadarFeatures]):
    """`extra["radar_features"]` of a batch: `points` (R, 45), see `state_features`, and `frame` (R,).

    In samples states are still codes (R, 11), a quarter of the size: they become features in the batch.
    """

    def load(self, frame: int, raw: RawFrame) -> None:
        """Merged sweeps in the ego frame of the keyframe."""
        keep = RadarFilter() if self.declared.filtered else EVERY_STATE

        def read(path: Path, token: str) -> NDArray[np.float32]:
            return read_radar_states(path, token, keep)

        raw.extra[KEY] = self.merged(frame, read, self.declared.advance, len(STATES))

    def augment(self, frame: int, raw: RawFrame, sample: Sample, change: Change) -> None:
        """Points moved, and cut to the area; velocities turned, mirrored and scaled with them."""
        points = change.points(raw.extra[KEY])
        columns = slice(3, 5) if self.declared.released_augment else slice(4, 6)
        points[:, columns] = points[:, columns] @ change.matrix[:2, :2].T.astype(np.float32)
        sample.extra[KEY] = points

    @staticmethod
    def collate(samples: Sequence[Sample], batch: Batch) -> None:
        """Features of all frames, one after the other."""
        points, frame = flat([state_features(part) for part in present([s.extra[KEY] for s in samples])])
        batch.extra[KEY] = {"points": points, "frame": frame}

    @staticmethod
    def example(declared: RadarFeatures, batch: Batch, reach: float, returns: int) -> None:
        """Some 100 returns of each of five radars, as many as there are without a filter."""
        points, generator = 500 * (1 + declared.sweeps), torch.Generator().manual_seed(0)
        made = torch.randn(points, FEATURES, generator=generator)
        made[:, :2] *= reach / 2
        made[:, 7:] = (made[:, 7:] > 1.0).float()
        batch.extra[KEY] = {"points": made, "frame": torch.zeros(points, dtype=torch.long)}
