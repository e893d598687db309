"""What student and teacher see of a frame: each network reads what it was made for; frames, labels and augmentation are
the student's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bevkd.config import DataConfig, ModelConfig, RunConfig
from bevkd.config.identity import field_facts
from bevkd.config.marks import ReadFor
from bevkd.data import FrameDataset, Sample
from bevkd.distill.cache import CacheReader
from bevkd.distill.cache_key import OF_NETWORK
from bevkd.train.stream import training_frames


@dataclass(frozen=True)
class View:
    """What is loaded of a frame.

    Attributes:
        model: sensors, image size and grid.
        data: sweeps and normalisation beside frames, labels and augmentation.
        lidar_images: whether LiDAR points are drawn into the images.
        depth_targets: whether depths per camera are made of them.
    """

    model: ModelConfig
    data: DataConfig
    lidar_images: bool
    depth_targets: bool

    def frames(self, run: RunConfig) -> FrameDataset:
        """The training frames of a run, seen like this."""
        return training_frames(
            replace(run, data=self.data),
            self.model,
            lidar_images=self.lidar_images,
            depth_targets=self.depth_targets,
        )


def student_view(run: RunConfig) -> View:
    """What a student reads."""
    return View(run.model, run.data, run.model.reads_lidar_images, run.model.reads_depth)


def teacher_view(run: RunConfig, teacher: RunConfig) -> View:
    """What a teacher reads of the frames of its student's run. Boxes are those in the student's range."""
    data = replace(run.data, **{name: getattr(teacher.data, name) for name in OF_NETWORK})
    return View(replace(teacher.model, grid=run.model.grid), data, teacher.model.reads_lidar_images, False)


def shared_view(student: View, teacher: View) -> View | None:
    """One view for both, where they read the sensors that both have in the same way; else None."""
    both = {*student.model.sensors} & {*teacher.model.sensors}
    if "camera" in both and student.model.camera.image_size != teacher.model.camera.image_size:
        return None
    changes = {}
    for name, _, marks in field_facts(DataConfig):
        sensors = {sensor for mark in marks if isinstance(mark, ReadFor) for sensor in mark.sensors}
        mine, other = getattr(student.data, name), getattr(teacher.data, name)
        if name not in OF_NETWORK or mine == other or not sensors & {*teacher.model.sensors}:
            continue
        if sensors & both:
            return None
        changes[name] = other
    model = replace(
        student.model,
        sensors=tuple(dict.fromkeys((*student.model.sensors, *teacher.model.sensors))),
        **({} if "camera" in student.model.sensors else {"camera": teacher.model.camera}),
    )
    lidar_images = student.lidar_images or teacher.lidar_images
    return View(model, replace(student.data, **changes), lidar_images, student.depth_targets)


class TrainingFrames:
    """Training frames as the student reads them, with what they bring of the teacher: targets out of a cache, or the
    same frame as a live teacher reads it.
    """

    def __init__(
        self, student: FrameDataset, teacher: FrameDataset | None = None, cache: CacheReader | None = None
    ) -> None:
        self.student, self.teacher, self.cache = student, teacher, cache
        self.tokens: list[str] = student.tokens
        self.labelled: NDArray[np.bool_] = student.labelled

    def __len__(self) -> int:
        return len(self.student)

    def class_lists(self) -> list[list[int]]:
        """See `FrameDataset.class_lists`."""
        return self.student.class_lists()

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
