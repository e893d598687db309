"""What student and teacher see of a frame: each network reads what it was made for; frames, labels and augmentation are
the student's.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bevkd.config import RunConfig
from bevkd.data import FrameDataset, Reads, Sample, reads_of
from bevkd.data.reads import Lidar
from bevkd.distill.cache import CacheReader
from bevkd.errors import ConfigError
from bevkd.train.teacher import Teacher


def student_reads(run: RunConfig) -> Reads:
    """What a student reads."""
    return reads_of(run.model, run.data)


def teacher_reads(teacher: RunConfig) -> Reads:
    """What a teacher reads: what it was trained on."""
    return reads_of(teacher.model, teacher.data).without_targets()


def shared_reads(student: Reads, teacher: Reads) -> Reads | None:
    """What serves both, where they read what both read in the same way; else None."""
    try:
        return student | teacher
    except ConfigError:
        return None


def check_paste(run: RunConfig, teacher: Teacher) -> None:
    """Whether pasted objects stand in what a run's teacher sees as in what its student sees.

    Raises:
        ConfigError: they are cut out of the sweeps that each reads, and the two read others, or one no LiDAR.
    """
    if not run.data.augment.gt_paste:
        return
    student, other = student_reads(run).get(Lidar), teacher_reads(teacher.run).get(Lidar)
    if student is None or student != other:
        raise ConfigError(
            f"run {run.run!r}: data.augment.gt_paste needs a teacher that reads the LiDAR data of its student:"
            f" student {student or 'none'}, teacher {other or 'none'}"
        )


class TrainingFrames:
    """Training frames as the student reads them, with what they bring of the teacher: targets out of a cache, or the
    same frame as a live teacher reads it.
    """

    def __init__(
        self, student: FrameDataset, teacher: FrameDataset | None = None, cache: CacheReader | None = None
    ) -> None:
        self.student, self.teacher, self.cache = student, teacher, cache
        self.labelled: NDArray[np.bool_] = student.labelled

    def __len__(self) -> int:
        return len(self.student)

    def class_lists(self) -> list[list[int]]:
        """See `FrameDataset.class_lists`."""
        return self.student.class_lists()

    def without(self, what: frozenset[str]) -> TrainingFrames:
        """See `FrameDataset.without`; for the teacher as well."""
        teacher = None if self.teacher is None else self.teacher.without(what)
        return TrainingFrames(self.student.without(what), teacher, self.cache)

    def get(self, i: int, epoch: int) -> Sample:
        """Frame `i` as an epoch sees it: a pure function of (seed, epoch, token).

        Raises:
            DataError: a file or a teacher target is missing, truncated or unreadable.
        """
        sample = self.student.get(i, epoch)
        if self.teacher is not None:
            sample.teacher = self.teacher.get(i, epoch)
        if self.cache is not None:
            sample.targets = self.cache.read(sample.token, sample.variant, sample.labelled)
        return sample
