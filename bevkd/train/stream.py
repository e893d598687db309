"""The stream of training batches: batch k is a pure function of (seed, k), whoever prepares it and whenever."""

from __future__ import annotations

import hashlib
import signal
import time
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from bevkd.config import ModelConfig, RunConfig
from bevkd.data import BatchPlan, FrameDataset, Sample, collate
from bevkd.data.batch import Batch
from bevkd.errors import ConfigError, DataError


def derive_seed(*parts: object) -> int:
    """A 63-bit seed from any printable parts, the same on every platform and in every process."""
    text = "/".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def training_frames(
    run: RunConfig,
    model: ModelConfig | None = None,
    *,
    lidar_images: bool | None = None,
    depth_targets: bool | None = None,
) -> FrameDataset:
    """Training frames of a run with the sensors of `model` (default: the student's), and LiDAR images and depth targets
    as asked for (default: as `model` reads them).
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
        depth_targets=model.reads_depth if depth_targets is None else depth_targets,
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


def total_steps(run: RunConfig, plan: BatchPlan) -> int:
    """Length of the schedule: `train.steps`, else `train.epochs` of the plan."""
    return run.train.steps if run.train.steps > 0 else max(1, run.train.epochs * plan.steps_per_epoch)


def entries_read(run: RunConfig, frames: FrameDataset, plan: BatchPlan, steps: int) -> set[tuple[int, int]]:
    """(frame, variant) of every sample of a training whose frames have fixed augmentations.

    Args:
        run: the training; `frames` may be those of another seed.
        frames: its frames.
        plan: its batches.
        steps: how many of them.

    Raises:
        ConfigError: frames have no fixed augmentations, so that nothing could be replayed.
    """
    if run.data.augment.variants < 1:
        raise ConfigError("a cached teacher needs data.augment.variants > 0; use teacher_mode: live otherwise")
    seen = {sample for step in range(steps) for sample in plan.batch(step)}
    return {(i, frames.variant_in(i, epoch, run.seed)) for i, epoch in seen}


class Frames(Protocol):
    """Where samples come from."""

    def get(self, i: int, epoch: int) -> Sample:
        """Frame `i` as an epoch sees it."""


class StepDataset(Dataset[Batch]):
    """Item k is the whole batch of step `start + k` for one process of `world_size`."""

    def __init__(
        self, frames: Frames, plan: BatchPlan, start: int, stop: int, rank: int, world_size: int
    ) -> None:
        self.frames, self.plan = frames, plan
        self.start, self.stop, self.rank, self.world_size = start, stop, rank, world_size

    def __len__(self) -> int:
        return self.stop - self.start

    def __getitem__(self, item: int) -> Batch:
        members = self.plan.shard(self.start + item, self.rank, self.world_size)
        return collate([self.frames.get(index, epoch) for index, epoch in members])


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
