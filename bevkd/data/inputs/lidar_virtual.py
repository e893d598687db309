"""Painted and virtual points of the key sweep and of earlier ones (DistillBEV spec, 2.1)."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bevkd.classes import CLASSES
from bevkd.data.batch import Batch
from bevkd.data.inputs.base import Change, InputReader
from bevkd.data.inputs.lidar import sweep_records
from bevkd.data.load import FrameLoader, RawFrame
from bevkd.data.reads import LidarVirtual
from bevkd.data.sample import Sample, flat, present
from bevkd.data.virtual.files import (
    AGE,
    COLUMNS,
    INTENSITY,
    LABEL,
    NO_INTENSITY,
    PAINTED_POINT,
    VIRTUAL_POINT,
    as_points,
    read_virtual,
    virtual_name,
)
from bevkd.data.virtual.places import MANIFEST, folder_of
from bevkd.errors import DataError
from bevkd.geometry import points_in_boxes
from bevkd.hints import command
from bevkd.io import names_in, read_json
from bevkd.registry import register

log = logging.getLogger(__name__)
KEY = "lidar_virtual"


@cache
def _say_once(folder: Path, without: tuple[int, int], earlier: tuple[int, int]) -> None:
    parts = [
        f"{count} of {total} {what}"
        for (count, total), what in ((without, "frames"), (earlier, "earlier sweeps"))
        if count
    ]
    log.warning("%s: %s have no file of virtual points: their LiDAR points alone are read", folder, " and ".join(parts))


@register("input", KEY)
class LidarVirtualReader(InputReader[LidarVirtual]):
    """`extra["lidar_virtual"]` of a batch: `points` (V, 17), see `as_points`, and `frame` (V,).

    The LiDAR points themselves are those of the input `lidar`; painted ones are copies of them. A sweep without a file
    of virtual points has none, and how many there are is said once. Objects may be pasted into its frames: of those
    there are LiDAR points alone.

    Raises:
        DataError: no frame has any.
    """

    pastes = True

    def __init__(self, declared: LidarVirtual, loader: FrameLoader) -> None:
        super().__init__(declared, loader)
        listings: dict[str, frozenset[str]] = {}
        frames = [i for i in range(len(loader.index)) if loader.records(i, "lidar")]
        records = [sweep_records(loader, i, declared.sweeps, declared.stride) for i in frames]
        self._there: dict[int, bool] = {}
        for at in {at for rows in records for at in rows}:
            folder, _, name = virtual_name(loader.index.sensors.filename[at]).rpartition("/")
            if folder not in listings:
                listings[folder] = frozenset(names_in(loader.inside.path(folder)))
            self._there[at] = name in listings[folder]
        keys = [rows[0] for rows in records]
        earlier = {at for rows in records for at in rows[1:]} - set(keys)
        without, older = (sum(not self._there[at] for at in some) for some in (keys, earlier))
        if keys and without == len(keys):
            made = command("virtual-points", index=loader.index.folder, root=loader.root)
            sensors, at = loader.index.sensors, keys[0]
            raise DataError(
                f"no frame has virtual points; make them with `{made}`",
                file=loader.root / virtual_name(sensors.filename[at]), token=sensors.token[at],
            )  # fmt: skip
        if without or older:
            _say_once(loader.index.folder, (without, len(keys)), (older, len(earlier)))

    def load(self, frame: int, raw: RawFrame) -> None:
        """Those of all sweeps in the ego frame of the keyframe; where sweeps are repeated, theirs are."""
        loader, sensors = self.loader, self.loader.index.sensors
        at = sweep_records(loader, frame, self.declared.sweeps, self.declared.stride)
        at += at[-1:] * (1 + self.declared.sweeps - len(at))
        poses, ages = loader.ego_from_sensor(frame, at), loader.ages(frame, at)
        parts = [np.zeros((0, COLUMNS), dtype=np.float32)]
        for i, pose, age in zip(at, poses, ages, strict=True):
            if self._there[i]:
                path = loader.inside.path(virtual_name(sensors.filename[i]), sensors.token[i])
                parts.append(as_points(read_virtual(path, sensors.token[i]), pose, float(age)))
        raw.extra[KEY] = np.concatenate(parts)

    def augment(self, frame: int, raw: RawFrame, sample: Sample, change: Change) -> None:
        """Points moved, and cut to the area, as LiDAR points are."""
        sample.extra[KEY] = change.points(raw.extra[KEY])

    def cleared(self, raw: RawFrame, boxes: NDArray[np.float64]) -> RawFrame:
        """Without the points inside of pasted boxes; of pasted objects there are LiDAR points alone."""
        points = raw.extra[KEY]
        left = points[~points_in_boxes(points, boxes).any(axis=0)]
        return replace(raw, extra={**raw.extra, KEY: left})

    def files(self) -> Any:
        """What the files were made of, as far as that is known."""
        manifest = folder_of(self.loader.index.folder) / MANIFEST
        return read_json(manifest) if manifest.exists() else None

    @staticmethod
    def collate(samples: Sequence[Sample], batch: Batch) -> None:
        """Points of all frames, one after the other."""
        points, frame = flat(present([s.extra[KEY] for s in samples]))
        batch.extra[KEY] = {"points": points, "frame": frame}

    @staticmethod
    def example(declared: LidarVirtual, batch: Batch, reach: float, returns: int) -> None:
        """Per sweep some 40 objects of 50 virtual points, and as many painted ones as a tenth of the returns."""
        sweeps, generator = 1 + declared.sweeps, torch.Generator().manual_seed(0)
        made: list[NDArray[np.float32]] = []
        for count, label in ((returns // 10, PAINTED_POINT), (2000, VIRTUAL_POINT)):
            count *= sweeps
            points = torch.zeros(count, COLUMNS)
            radius = reach * torch.rand(count, generator=generator)
            angle = 2 * math.pi * torch.rand(count, generator=generator)
            points[:, 0], points[:, 1] = radius * angle.cos(), radius * angle.sin()
            points[:, 2] = 2 * torch.rand(count, generator=generator)
            points[:, INTENSITY] = (
                255 * torch.rand(count, generator=generator) if label == PAINTED_POINT else NO_INTENSITY
            )
            points[torch.arange(count), INTENSITY + 1 + torch.arange(count) % len(CLASSES)] = 1.0
            points[:, LABEL - 1] = torch.rand(count, generator=generator)
            points[:, LABEL] = label
            points[:, AGE] = 0.5 * torch.rand(count, generator=generator)
            made.append(points.numpy())
        points = torch.from_numpy(np.concatenate(made))
        batch.extra[KEY] = {"points": points, "frame": torch.zeros(len(points), dtype=torch.long)}
