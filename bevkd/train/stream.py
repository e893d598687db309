"""The stream of training batches: batch k is a pure function of (seed, k), whoever prepares it and whenever."""

from __future__ import annotations

import hashlib
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from bevkd.config import ModelConfig, RunConfig
from bevkd.config.training import Timeline
from bevkd.data import BatchPlan, FrameDataset, collate
from bevkd.data.batch import Batch
from bevkd.errors import ConfigError, DataError


def derive_seed(*parts: object) -> int:
    """A 63-bit seed from any printable parts, the same on every platform and in every process."""
    text = "/".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def training_frames(
    run: RunConfig, model: ModelConfig | None = None, *, lidar_images: bool | None = None
) -> FrameDataset:
    """Training frames of a run with the sensors of `model` (default: the student's), and LiDAR images as asked for
    (default: as `model` reads them).
    """
    model = model or run.model
    return FrameDataset(
        run.data,
        model,
        run.data.train_split,
        train=True,
        seed=run.seed,
        frames=run.row.frames,
        labelled_subset=run.row.labelled_subset,
        depth_targets=model.reads_depth,
        lidar_images=lidar_images,
    )


def batch_plan(run: RunConfig, frames: FrameDataset) -> BatchPlan:
    """Which frames form which batch.

    Raises:
        ConfigError: unlabelled frames are asked for but the row has none, or it has some and asks for none.
    """
    config = run.train
    limit = config.frames_limit or len(frames)
    labelled = np.asarray(frames.labelled, dtype=bool)[:limit]
    if config.unlabelled_per_batch > 0 and labelled.all():
        raise ConfigError(f"run {run.run!r}: train.unlabelled_per_batch > 0 needs unlabelled frames (frames: all)")
    if config.unlabelled_per_batch == 0 and not labelled.all():
        raise ConfigError(f"run {run.run!r}: frames: all has no effect without train.unlabelled_per_batch")
    class_lists = None
    if run.data.cbgs:
        class_lists = [[i for i in members if i < limit] for members in frames.class_lists()]
    return BatchPlan(
        np.flatnonzero(labelled),
        np.flatnonzero(~labelled),
        config.frames_per_batch,
        config.unlabelled_per_batch,
        run.seed,
        class_lists=class_lists,
    )


@dataclass(frozen=True)
class Phase:
    """What the steps from `first` (counted from 0) until the next phase draw their batches from."""

    first: int
    frames: FrameDataset
    plan: BatchPlan


def phases(run: RunConfig, frames: FrameDataset, plan: BatchPlan, line: Timeline) -> list[Phase]:
    """The stretches of a training between which parts of the data side are switched off (`train.switch_off`).

    Args:
        run: the run.
        frames, plan: what it begins with.
        line: length of the training.

    Raises:
        ConfigError: the targets of a teacher are cached for augmentations that the student would no longer see.
    """
    out, off = [Phase(0, frames, plan)], set[str]()
    for moment in sorted(run.train.switch_off, key=lambda moment: moment.at(line)):
        off |= set(moment.what)
        augmented = frozenset(off - {"cbgs"})
        if augmented and run.row.teacher is not None and run.row.teacher_mode == "cached":
            raise ConfigError(f"run {run.run!r}: train.switch_off: {', '.join(sorted(augmented))} wants a live teacher")
        plain = replace(run, data=replace(run.data, cbgs=run.data.cbgs and "cbgs" not in off))
        phase = Phase(moment.at(line), frames.without(augmented), batch_plan(plain, frames))
        out = [earlier for earlier in out if earlier.first < phase.first] + [phase]
    return out


class StepDataset(Dataset[Batch]):
    """Item k is the batch, or part of it, that one process of `world_size` works on: step `start + k // parts`, part
    `k % parts`.
    """

    def __init__(
        self, stretches: Sequence[Phase], start: int, stop: int, rank: int, world_size: int, parts: int = 1
    ) -> None:
        self.stretches, self.parts = stretches, parts
        self.start, self.stop, self.rank, self.world_size = start, stop, rank, world_size

    def __len__(self) -> int:
        return (self.stop - self.start) * self.parts

    def __getitem__(self, item: int) -> Batch:
        step, part = self.start + item // self.parts, item % self.parts
        phase = next(phase for phase in reversed(self.stretches) if phase.first <= step)
        members = phase.plan.shard(step, self.rank + self.world_size * part, self.world_size * self.parts)
        return collate([phase.frames.get(index, epoch) for index, epoch in members])


class _CarryErrors(Dataset[Any]):
    """Hands errors over as items: a worker process would turn them into another text without their fields."""

    def __init__(self, inner: StepDataset) -> None:
        self.inner = inner

    def __len__(self) -> int:
        return len(self.inner)

    def __getitem__(self, item: int) -> Batch | DataError:
        try:
            return self.inner[item]
        except DataError as error:
            return error


def _ignore_interrupts(_worker: int) -> None:
    # The main process decides what an interrupt means; workers end with it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)


def _as_it_is(item: Any) -> Any:
    return item


def timed_batches(steps: StepDataset, workers: int) -> Iterator[tuple[Batch, float]]:
    """Batches in step order and the seconds each one kept the training waiting.

    Args:
        steps: what to iterate over.
        workers: processes that prepare batches ahead; 0 prepares them here, when they are needed.

    Raises:
        DataError: bad data, also when a worker process met it.
    """
    source: Iterator[Any]
    if workers == 0:
        source = (steps[i] for i in range(len(steps)))
    else:
        loader = DataLoader(
            _CarryErrors(steps),
            batch_size=None,
            shuffle=False,
            num_workers=workers,
            collate_fn=_as_it_is,
            worker_init_fn=_ignore_interrupts,
            generator=torch.Generator(),  # its own, so that the global generator is not touched
        )
        source = iter(loader)
    while True:
        began = time.perf_counter()
        item = next(source, None)
        if item is None:
            return
        if isinstance(item, DataError):
            raise item
        yield item, time.perf_counter() - began
