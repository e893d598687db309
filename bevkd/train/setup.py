"""From settings to what the loop runs: frames, batches, teacher and engine, each resolved once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from bevkd.config import MethodConfig, RunConfig
from bevkd.data import BatchPlan, FrameDataset
from bevkd.distill import DistillEngine, TeacherCache, build_method, method_settings
from bevkd.distill.teacher import SCORE_THRESHOLD
from bevkd.errors import ConfigError
from bevkd.models.detector import Detector
from bevkd.registry import lookup
from bevkd.train.caching import cache_dir, open_cache
from bevkd.train.stream import batch_plan, derive_seed, entries_read, total_steps
from bevkd.train.teacher import Teacher, load_teacher
from bevkd.train.views import TrainingFrames, shared_view, student_view, teacher_view


@dataclass(frozen=True)
class Setup:
    """What a training is made of, beside the student.

    Attributes:
        frames: samples, with what they bring of the teacher.
        plan, steps: which of them form the batches, and how many batches.
        seed: of the run.
        method: None for plain training.
        teacher: None without one.
        cached: whether the teacher's targets come with the samples.
    """

    frames: TrainingFrames
    plan: BatchPlan
    steps: int
    seed: int
    method: MethodConfig | None
    teacher: Teacher | None
    cached: bool

    def engine(self, student: Detector) -> DistillEngine | None:
        """The distillation part of the step. The adapters' initial weights depend on the seed alone.

        Raises:
            ConfigError: networks that the method cannot connect.
        """
        if self.method is None:
            return None
        torch.manual_seed(derive_seed(self.seed, "adapters"))
        spec = student.spec if self.teacher is None else self.teacher.spec
        method = build_method(self.method, student.spec, spec)
        live = self.teacher is not None and method.uses_teacher and not self.cached
        return DistillEngine(
            method,
            student.grid,
            teacher=self.teacher.detector if live and self.teacher is not None else None,
            cached=self.cached,
        )


def prepare(
    run: RunConfig, out: Path, digest: str | None = None, *, steps: int | None = None, cache: Path | None = None
) -> Setup:
    """Resolve a run. Its teacher is loaded here and nowhere else; what its cache lacks is computed.

    Args:
        run: the run.
        out: its folder, from which teacher and cache are found.
        digest: of the teacher's file, if it is known already.
        steps: look at so many batches only.
        cache: another folder for the teacher cache.

    Raises:
        ConfigError: the run cannot be trained, or its teacher is not trained yet.
        CheckpointError: the teacher is unreadable or of another architecture.
        DataError: bad data.
    """
    teacher, view = load_teacher(run, out, digest), student_view(run)
    method = run.row.method
    if teacher is None or method is None or not lookup("method", method.kind).uses_teacher:
        frames = view.frames(run)
        plan = batch_plan(run, frames)
        return Setup(TrainingFrames(frames), plan, steps or total_steps(run, plan), run.seed, method, teacher, False)
    other = teacher_view(run, teacher.run)
    if run.row.teacher_mode == "live":
        both = shared_view(view, other)
        frames = (both or view).frames(run)
        second = other.frames(run) if both is None else None
        plan = batch_plan(run, frames)
        feed = TrainingFrames(frames, teacher=second)
        return Setup(feed, plan, steps or total_steps(run, plan), run.seed, method, teacher, False)
    frames = view.frames(run)
    plan = batch_plan(run, frames)
    steps = steps or total_steps(run, plan)
    held = open_cache(
        run,
        teacher,
        _replayed(run, teacher),
        entries_read(run, frames, plan, steps),
        cache or cache_dir(run, teacher, out),
    )
    reader = held.reader(method_settings(method).wanted(), teacher.grid, SCORE_THRESHOLD)
    return Setup(TrainingFrames(frames, cache=reader), plan, steps, run.seed, method, teacher, True)


def _replayed(run: RunConfig, teacher: Teacher) -> FrameDataset:
    """The frames of a run as its teacher reads them, decoded once for all their variants."""
    view = teacher_view(run, teacher.run)
    return replace(view, data=replace(view.data, memory_cache=True)).frames(run)


def ensure_cache(run: RunConfig, out: Path, readers: Sequence[RunConfig] = ()) -> TeacherCache:
    """The teacher cache of a run with all entries that some runs read.

    Args:
        run: a run with a cached teacher.
        out: its folder, from which teacher and cache are found.
        readers: runs that read the same cache; default: this one.

    Raises:
        ConfigError, CheckpointError: the teacher is missing or cannot be used.
        DataError: bad data.
    """
    teacher = load_teacher(run, Path(out))
    if teacher is None:
        raise ConfigError(f"run {run.run!r} has no teacher to cache")
    frames, asked = _replayed(run, teacher), set[tuple[int, int]]()
    for reader in readers or (run,):
        plan = batch_plan(reader, frames)
        asked |= entries_read(reader, frames, plan, total_steps(reader, plan))
    return open_cache(run, teacher, frames, asked, cache_dir(run, teacher, Path(out)))
