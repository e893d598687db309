"""The stream of training batches: batch k is a pure function of (seed, k), whoever prepares it and whenever."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from itertools import islice
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from bevkd.config import RunConfig
from bevkd.config.training import Timeline
from bevkd.data import BatchPlan, FrameDataset, Reads, Sample, collate
from bevkd.data.batch import Batch
from bevkd.data.image_frames import open_frames
from bevkd.errors import ConfigError
from bevkd.train.workers import samples_ahead


def derive_seed(*parts: object) -> int:
    """A 63-bit seed from any printable parts, the same on every platform and in every process."""
    text = "/".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def data_seed(run: RunConfig) -> int:
    """Seed of the order of the frames and of their augmentations: the run's, unless it asks for another order."""
    return derive_seed(run.seed, "order", run.train.order) if run.train.order else run.seed


def training_frames(run: RunConfig, reads: Reads | None = None) -> FrameDataset:
    """Training frames of a run, with what is to be read of them; default: what its network reads and is taught by.

    Raises:
        DataError: no labelled frame has a box to learn from.
    """
    frames = open_frames(
        run.data,
        run.model,
        run.data.train_split,
        train=True,
        seed=data_seed(run),
        frames=run.row.frames,
        labelled_subset=run.row.labelled_subset,
        reads=reads,
    )
    frames.require_targets(run.train.frames_limit or None)  # every batch holds labelled frames, whatever it has beside
    return frames


class Frames(Protocol):
    """Where samples come from."""

    @property
    def labelled(self) -> NDArray[np.bool_]:
        """(n,) whether the annotations of a frame may be used."""

    def __len__(self) -> int:
        """Number of frames."""

    def get(self, i: int, epoch: int) -> Sample:
        """Frame `i` as an epoch sees it."""

    def class_lists(self) -> list[list[int]]:
        """For each class the labelled frames that contain it."""

    def without(self, what: frozenset[str]) -> Frames:
        """The same frames with parts of their augmentation left out."""


def batch_plan(run: RunConfig, frames: Frames) -> BatchPlan:
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
        data_seed(run),
        class_lists=class_lists,
    )


def total_steps(run: RunConfig, plan: BatchPlan) -> int:
    """Length of the schedule: `train.steps`, else `train.epochs` of the plan."""
    return run.train.steps if run.train.steps > 0 else max(1, run.train.epochs * plan.steps_per_epoch)


def entries_read(
    run: RunConfig, frames: FrameDataset, batches: Iterable[Sequence[tuple[int, int]]]
) -> set[tuple[int, int]]:
    """(frame, variant) of every sample of a training whose frames have fixed augmentations.

    Args:
        run: the training; `frames` may be those of another seed.
        frames: its frames.
        batches: (frame, epoch) of the samples of each of its steps.

    Raises:
        ConfigError: frames have no fixed augmentations, so that nothing could be replayed.
    """
    if run.data.augment.variants < 1:
        raise ConfigError("a cached teacher needs data.augment.variants > 0; use teacher_mode: live otherwise")
    seen = {sample for batch in batches for sample in batch}
    return {(i, frames.variant_in(i, epoch, data_seed(run))) for i, epoch in seen}


@dataclass(frozen=True)
class Phase:
    """What the steps from `first` (counted from 0) until the next phase draw their batches from."""

    first: int
    frames: Frames
    plan: BatchPlan


def phase_at(stretches: Sequence[Phase], step: int) -> Phase:
    """The phase that a step belongs to."""
    return next(phase for phase in reversed(stretches) if phase.first <= step)


def phases(run: RunConfig, frames: Frames, plan: BatchPlan, line: Timeline, *, cached: bool = False) -> list[Phase]:
    """The stretches of a training between which parts of the data side are switched off (`train.switch_off`).

    Args:
        run: the run.
        frames, plan: what it begins with.
        line: length of the training.
        cached: whether the targets of a teacher come out of a cache.

    Raises:
        ConfigError: these targets are cached for augmentations that the student would no longer see.
    """
    out, off = [Phase(0, frames, plan)], set[str]()
    for moment in sorted(run.train.switch_off, key=lambda moment: moment.at(line)):
        off |= set(moment.what)
        augmented = frozenset(off - {"cbgs"})
        if augmented and cached:
            raise ConfigError(f"run {run.run!r}: train.switch_off: {', '.join(sorted(augmented))} wants a live teacher")
        plain = replace(run, data=replace(run.data, cbgs=run.data.cbgs and "cbgs" not in off))
        phase = Phase(moment.at(line), frames.without(augmented), batch_plan(plain, frames))
        out = [earlier for earlier in out if earlier.first < phase.first] + [phase]
    return out


class StepDataset(Dataset[Sample]):
    """The samples that steps `start` to `stop` show to one process of `world_size`, one after the other.

    Attributes:
        frames_per_batch: how many of them are worked on at once: those of a step, or of one of its `parts`.

    Raises:
        ConfigError: a batch cannot be divided evenly among the processes and parts.
    """

    def __init__(
        self, stretches: Sequence[Phase], start: int, stop: int, rank: int, world_size: int, parts: int = 1
    ) -> None:
        self.stretches, self.parts = stretches, parts
        self.start, self.stop, self.rank, self.world_size = start, stop, rank, world_size
        self.frames_per_batch = len(stretches[0].plan.shard(start, rank, world_size * parts))

    def __len__(self) -> int:
        return (self.stop - self.start) * self.parts * self.frames_per_batch

    def __getitem__(self, item: int) -> Sample:
        batch, place = divmod(item, self.frames_per_batch)
        step, part = self.start + batch // self.parts, batch % self.parts
        phase = phase_at(self.stretches, step)
        members = phase.plan.shard(step, self.rank + self.world_size * part, self.world_size * self.parts)
        return phase.frames.get(*members[place])


def worker_count(workers: int | Literal["auto"]) -> int:
    """Processes that prepare samples; "auto": one per core that this job may use, divided among its training processes
    and without the one of each that trains, but at least one.

    A job may use the cores it is bound to, those that SLURM gave to its task, and `BEVKD_CORES` of them where it shares
    a machine.
    """
    if workers != "auto":
        return workers
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for name in ("SLURM_CPUS_PER_TASK", "BEVKD_CORES"):
        cores = min(cores, int(os.environ.get(name, cores)))
    return max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1")) - 1)


def timed_batches(steps: StepDataset, workers: int) -> Generator[tuple[Batch, float], None, None]:
    """Batches in step order and the seconds each one kept the training waiting. Whoever leaves early closes it: thread
    and processes have ended then.

    Args:
        steps: what to iterate over.
        workers: processes that prepare samples ahead, for a thread that puts them together; 0 prepares both here, when
            they are needed.

    Raises:
        DataError: bad data, also when a worker process met it.
    """
    samples = (steps[i] for i in range(len(steps))) if workers == 0 else samples_ahead(steps, workers)
    with ExitStack() as stack:  # closed from the last to the first: who reads before what is read
        stack.enter_context(closing(samples))
        batches = stack.enter_context(closing(_batches(samples, steps.frames_per_batch)))
        if workers > 0:
            batches = stack.enter_context(closing(_ahead(batches)))
        while True:
            began = time.perf_counter()
            batch = next(batches, None)
            if batch is None:
                return
            yield batch, time.perf_counter() - began


def _batches(samples: Iterator[Sample], count: int) -> Generator[Batch, None, None]:
    while part := list(islice(samples, count)):
        yield collate(part)


def _ahead(batches: Iterator[Batch]) -> Generator[Batch, None, None]:
    """The same batches, each made while the one before is in use, and in pinned memory where there is a GPU."""
    pin = torch.cuda.is_available()

    def make() -> Batch | None:
        batch = next(batches, None)
        return batch.pin_memory() if pin and batch is not None else batch

    with ThreadPoolExecutor(1, thread_name_prefix="collate") as thread:
        following = thread.submit(make)
        while (batch := following.result()) is not None:
            following = thread.submit(make)
            yield batch
