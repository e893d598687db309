"""Frozen teachers: loading, running no further than the losses read, boxes for unlabelled frames, targets."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from bevkd.data.batch import Batch, Boxes
from bevkd.distill.base import DistillContext, DistillMethod, Target, Targets
from bevkd.geometry import BEVGrid
from bevkd.models.outputs import BEVOutputs

SCORE_THRESHOLD = 0.3


class TeacherNet(Protocol):
    """What distillation needs of a detector."""

    def __call__(self, batch: Batch, until: str | None = None) -> BEVOutputs:
        """Run the detector up to a stage."""

    def decode(self, outputs: BEVOutputs) -> Boxes:
        """Boxes with scores, flat and sorted by frame."""


def stage_needed(method: DistillMethod, unlabelled: bool) -> str | None:
    """The last teacher stage to run for a batch with or without unlabelled frames; None: the teacher is not needed."""
    if unlabelled and method.needs_boxes:
        return method.teacher.stages[-1]
    return method.teacher.last_stage(method.reads)


def joined_boxes(annotated: Boxes, taught: Boxes) -> Boxes:
    """Annotations, which only labelled frames have, and the teacher's boxes on the other frames, sorted by frame."""
    if len(taught) == 0:
        return annotated
    joined = Boxes.cat([annotated, taught])
    return joined.select(torch.argsort(joined.frame, stable=True))


def teach(
    method: DistillMethod,
    teacher: TeacherNet,
    batch: Batch,
    grid: BEVGrid,
    score_threshold: float = SCORE_THRESHOLD,
    *,
    compact: bool = True,
) -> tuple[Targets, DistillContext]:
    """Targets and context of a batch from a live teacher: the one path that steps and cache builders share.

    The teacher runs under inference mode; what is returned are ordinary tensors without a graph. Where every frame is
    labelled and `compact` is off, UniDistill's targets are made without reading anything back from the device, but for
    those of masked features and relations; boxes of unlabelled frames are decoded, which also needs to count them.

    Args:
        method: whose targets.
        teacher: frozen, in eval mode.
        batch: frames on the teacher's device.
        grid: of the BEV maps.
        score_threshold: the teacher's boxes above it stand in for annotations on unlabelled frames.
        compact: see `DistillContext`.
    """
    labelled = batch.labelled
    unlabelled = not all(batch.labelled_flags)
    stage = stage_needed(method, unlabelled)
    with torch.inference_mode():
        outputs = teacher(batch, until=stage) if stage is not None else None
    # From here on only `no_grad`: tensors made under inference mode cannot take part in the student's graph.
    with torch.no_grad(), torch.autocast(labelled.device.type, enabled=False):
        taught = Boxes.empty(labelled.device)
        if outputs is not None and unlabelled and method.needs_boxes:
            decoded = teacher.decode(outputs)
            taught = decoded.select((decoded.scores > score_threshold) & ~labelled[decoded.frame])
        boxes = joined_boxes(batch.boxes, taught)
        context = DistillContext(grid, len(batch), boxes, labelled, batch.cameras, batch.bev_aug, compact)
        targets = method.targets(outputs, context) if outputs is not None else {}
    return {name: Target(_ordinary(t.values), _ordinary(t.frame)) for name, t in targets.items()}, context


def _ordinary(values: Tensor) -> Tensor:
    # Views of the teacher's own maps are still inference tensors; everything computed from them is not.
    return values.clone() if values.is_inference() else values
