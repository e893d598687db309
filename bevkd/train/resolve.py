"""From settings to what a training learns from: frames, batches, teacher and engine, each resolved once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from bevkd.config import MethodConfig, RunConfig
from bevkd.config.training import Timeline
from bevkd.data import FrameDataset
from bevkd.distill import SCORE_THRESHOLD, DistillEngine, TeacherCache, build_method, method_settings
from bevkd.distill.cache_key import reads_cache
from bevkd.distill.cache_part import Entry
from bevkd.distill.tap import Wanted, together
from bevkd.distill.teacher import expose
from bevkd.errors import ConfigError
from bevkd.models.detector import Detector
from bevkd.models.outputs import FeatureSpec
from bevkd.train.caching import cache_dir, open_cache
from bevkd.train.stream import (
    Frames,
    Phase,
    batch_plan,
    derive_seed,
    entries_read,
    phase_at,
    phases,
    total_steps,
    training_frames,
)
from bevkd.train.teacher import Teacher, load_teacher
from bevkd.train.views import TrainingFrames, check_paste, shared_reads, student_reads, teacher_reads


@dataclass(frozen=True)
class Lesson:
    """What a training learns from.

    Attributes:
        frames: samples, with what they bring of the teacher.
        line: how many batches.
        stretches: what forms the batches from which step on.
        seed: of the run.
        method: None for plain training.
        taught_by: features of the teacher; None without one.
        teacher: the teacher itself; None without one.
        live: whether it runs in the step.
        cached: whether the teacher's targets come with the samples.
    """

    frames: TrainingFrames
    line: Timeline
    stretches: Sequence[Phase]
    seed: int
    method: MethodConfig | None = None
    taught_by: FeatureSpec | None = None
    teacher: Detector | None = None
    live: bool = False
    cached: bool = False

    def engine(self, student: Detector) -> DistillEngine | None:
        """The distillation part of the step. The adapters' initial weights depend on the seed alone.

        Raises:
            ConfigError: networks that the method cannot connect.
        """
        if self.method is None:
            return None
        torch.manual_seed(derive_seed(self.seed, "adapters"))
        method = build_method(self.method, student.spec, self.taught_by or student.spec)
        expose(student, method.student_features)
        if self.teacher is not None:
            method.take(self.teacher)
        return DistillEngine(method, student.grid, self.teacher if self.live else None, cached=self.cached)


def resolve(
    run: RunConfig, out: Path, digest: str | None = None, *, steps: int | None = None, cache: Path | None = None
) -> Lesson:
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
    teacher = load_teacher(run, out, digest)
    if cache is None and teacher is not None and reads_cache(run):
        cache = cache_dir(run, teacher, out)
    return lesson_of(run, teacher, cache, steps)


def lesson_of(run: RunConfig, teacher: Teacher | None, cache: Path | None, steps: int | None = None) -> Lesson:
    """What a run learns from, of a teacher that is loaded already; arguments and errors as of `resolve`."""
    method = run.row.method
    if teacher is not None and method is not None and method_settings(method).uses_teacher:
        check_paste(run, teacher)
        if run.row.teacher_mode == "live":
            return _live(run, method, teacher, steps)
        assert cache is not None
        return _cached(run, method, teacher, steps, cache)
    frames = TrainingFrames(training_frames(run, student_reads(run)))
    spec = None if teacher is None else teacher.spec
    return Lesson(frames, *_course(run, frames, steps), run.seed, method, spec)


def _course(run: RunConfig, frames: Frames, steps: int | None, *, cached: bool = False) -> tuple[Timeline, list[Phase]]:
    plan = batch_plan(run, frames)
    line = Timeline(steps or total_steps(run, plan), plan.steps_per_epoch)
    return line, phases(run, frames, plan, line, cached=cached)


def _live(run: RunConfig, method: MethodConfig, teacher: Teacher, steps: int | None) -> Lesson:
    own, other = student_reads(run), teacher_reads(teacher.run)
    both = shared_reads(own, other)
    student = training_frames(run, both or own)
    frames = TrainingFrames(student, teacher=training_frames(run, other) if both is None else None)
    return Lesson(frames, *_course(run, frames, steps), run.seed, method, teacher.spec, teacher.detector, live=True)


def _cached(run: RunConfig, method: MethodConfig, teacher: Teacher, steps: int | None, folder: Path) -> Lesson:
    student = training_frames(run, student_reads(run))
    line, stretches = _course(run, student, steps, cached=True)
    asked = entries_read(run, student, _batches(line, stretches))
    wanted = method_settings(method).cached()
    by_column = dict.fromkeys(wanted.columns, asked)
    held = open_cache(run, teacher, student, wanted, by_column, lambda: _replayed(run, teacher), folder)
    reader = held.reader(method_settings(method).wanted(), teacher.grid, SCORE_THRESHOLD)
    frames = TrainingFrames(student, cache=reader)
    # Targets belong to augmentations, of which none ends before the training: all phases have the same frames.
    taught = [replace(phase, frames=frames) for phase in stretches]
    return Lesson(frames, line, taught, run.seed, method, teacher.spec, teacher.detector, cached=True)


def ensure_cache(run: RunConfig, out: Path, readers: Sequence[RunConfig] = ()) -> TeacherCache:
    """The teacher cache of a run with all that it and some other runs read: of every tap the entries of those that read
    it. The teacher looks once at what is new.

    Args:
        run: a run with a cached teacher.
        out: its folder, from which teacher and cache are found.
        readers: runs that read the same cache; this one may be among them.

    Raises:
        ConfigError, CheckpointError: the teacher is missing or cannot be used.
        DataError: bad data.
    """
    teacher = load_teacher(run, Path(out))
    if teacher is None:
        raise ConfigError(f"run {run.run!r} has no teacher to cache")
    trainings = [run, *(reader for reader in readers if reader != run)]
    for reader in trainings:
        check_paste(reader, teacher)
    frames, asked, wanted = _replayed(run, teacher), dict[str, set[Entry]](), list[Wanted]()
    for reader in trainings:
        entries = entries_read(reader, frames, _batches(*_course(reader, frames, None, cached=True)))
        assert reader.row.method is not None
        wanted.append(method_settings(reader.row.method).cached())
        for column in wanted[-1].columns:
            asked.setdefault(column, set()).update(entries)
    folder = cache_dir(run, teacher, Path(out))
    return open_cache(run, teacher, frames, together(wanted), asked, lambda: frames, folder)


def _batches(line: Timeline, stretches: Sequence[Phase]) -> Iterable[list[tuple[int, int]]]:
    return (phase_at(stretches, step).plan.batch(step) for step in range(line.steps))


def _replayed(run: RunConfig, teacher: Teacher) -> FrameDataset:
    """The frames of a run as its teacher reads them, each decoded once for all its variants."""
    kept = replace(run, data=replace(run.data, memory_cache=True))
    return training_frames(kept, teacher_reads(teacher.run))
