"""The teacher of a run: a value that is loaded once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bevkd.config import RunConfig, run_dir
from bevkd.errors import ConfigError
from bevkd.geometry import BEVGrid
from bevkd.hints import how_to_train
from bevkd.io import file_digest
from bevkd.models.detector import Detector
from bevkd.models.outputs import FeatureSpec
from bevkd.train.checkpoint import MODEL, content_digest, load_detector

_OF_FILE = 64  # characters of a digest of a file


@dataclass(frozen=True)
class Teacher:
    """A trained network to learn from.

    Attributes:
        detector: the network, in eval mode.
        run: the settings that it was trained with, which say what it reads of a frame.
        digest: see `content_digest`.
        path: its file.
    """

    detector: Detector
    run: RunConfig
    digest: str
    path: Path

    @property
    def spec(self) -> FeatureSpec:
        """Its features and sensors."""
        return self.detector.spec

    @property
    def grid(self) -> BEVGrid:
        """The grid of its BEV maps."""
        return self.detector.grid


def runs_root(out: Path) -> Path:
    """`<runs>` of a folder `<runs>/<scale>/<run>/seed<N>`."""
    return (out if len(out.parts) > 3 else out.resolve()).parents[2]


def teacher_path(run: RunConfig, out: Path) -> Path:
    """The teacher's weights.

    Raises:
        ConfigError: the run has no teacher.
    """
    row = run.row
    if row.teacher is None:
        raise ConfigError(f"run {run.run!r} has no teacher")
    return run_dir(row.teacher, run.scale, run.teacher_seed, runs_root(out)) / MODEL


def teacher_digest(run: RunConfig, out: Path) -> str:
    """Digest of the teacher, see `content_digest`; "" without one.

    Raises:
        ConfigError: the teacher is not trained yet.
        CheckpointError: it is unreadable.
    """
    if run.row.teacher is None:
        return ""
    path = teacher_path(run, out)
    if not path.exists():
        how = how_to_train(str(run.row.teacher), run.scale, run.teacher_seed, runs_root(out))
        raise ConfigError(f"the teacher of run {run.run!r} is not trained yet: no {path}{how}")
    return content_digest(path)


def is_digest_of(digest: str, now: str, path: Path) -> bool:
    """Whether a digest that was written down is that of a teacher.

    Args:
        digest: what was written down; before there were digests of content, it was that of the file.
        now: the teacher's digest.
        path: its file.
    """
    return digest == now or (len(digest) == _OF_FILE and digest == file_digest(path))


def load_teacher(run: RunConfig, out: Path, digest: str | None = None) -> Teacher | None:
    """The teacher of a run, None without one.

    Args:
        run: the student's settings.
        out: its folder, from which the teacher is found.
        digest: `teacher_digest`, if it is known already.

    Raises:
        ConfigError: the teacher is not trained yet, or works on another grid.
        CheckpointError: it is unreadable or of another architecture.
    """
    if run.row.teacher is None:
        return None
    digest, path = digest or teacher_digest(run, out), teacher_path(run, out)
    teacher = Teacher(*load_detector(path), digest, path)
    grid = run.model.grid.build()
    if teacher.grid != grid:
        raise ConfigError(f"student and teacher need one BEV grid, not {grid} and {teacher.grid}")
    return teacher
