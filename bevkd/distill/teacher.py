"""Frozen teachers: running no further than the losses read, boxes for unlabelled frames, targets."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from bevkd.data.batch import Batch, Boxes
from bevkd.distill.base import DistillContext, Target, Targets
from bevkd.distill.reading import read_taps
from bevkd.distill.tap import Wanted
from bevkd.geometry import BEVGrid
from bevkd.models.base import Detector
from bevkd.models.features import BEFORE
from bevkd.models.layers import full_precision
from bevkd.models.outputs import BEVOutputs, FeatureSpec

SCORE_THRESHOLD = 0.3


class TeacherNet(Protocol):
    """What distillation needs of a detector."""

    spec: FeatureSpec

    def __call__(self, batch: Batch, until: str | None = None) -> BEVOutputs:
        """Run the detector up to a stage."""

    def decode(self, outputs: BEVOutputs) -> Boxes:
        """Boxes with scores, flat and sorted by frame."""


def stage_needed(wanted: Wanted, spec: FeatureSpec, unlabelled: bool) -> str | None:
    """The last teacher stage to run for a batch with or without unlabelled frames; None: the teacher is not needed.

    Raises:
        FeatureError: the teacher has no such feature.
    """
    if unlabelled and wanted.boxes:
        return spec.stages[-1]
    return spec.last_stage(wanted.features)


def expose(net: nn.Module, features: Iterable[str]) -> None:
    """Have a network keep those of some features that are values before an activation, which others overwrite.

    Raises:
        FeatureError: it has no such feature.
    """
    before = sorted(name for name in features if name.endswith(BEFORE))
    if before:
        cast(Detector, net).expose(before)


def joined_boxes(annotated: Boxes, taught: Boxes) -> Boxes:
    """Annotations, which only labelled frames have, and the teacher's boxes on the other frames, sorted by frame."""
    if len(taught) == 0:
        return annotated
    joined = Boxes.cat([annotated, taught])
    return joined.select(torch.argsort(joined.frame, stable=True))


def teach(
    wanted: Wanted,
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
        wanted: the targets.
        teacher: frozen, in eval mode.
        batch: frames as the teacher reads them, on its device.
        grid: of the BEV maps.
        score_threshold: the teacher's boxes above it stand in for annotations on unlabelled frames.
        compact: see `DistillContext`.
    """
    labelled = batch.labelled
    unlabelled = not all(batch.labelled_flags)
    stage = stage_needed(wanted, teacher.spec, unlabelled)
    with torch.inference_mode():
        outputs = teacher(batch, until=stage) if stage is not None else None
    # From here on only `no_grad`: tensors made under inference mode cannot take part in the student's graph.
    with torch.no_grad(), full_precision(labelled):
        taught = Boxes.empty(labelled.device)
        if outputs is not None and unlabelled and wanted.boxes:
            decoded = teacher.decode(outputs)
            taught = decoded.select((decoded.scores > score_threshold) & ~labelled[decoded.frame])
        boxes = joined_boxes(batch.boxes, taught)
        context = DistillContext(grid, len(batch), boxes, labelled, batch.cameras, batch.bev_aug, compact)
        targets = read_taps(wanted.taps, outputs, context) if outputs is not None else {}
    return {name: Target(_ordinary(t.values), _ordinary(t.frame)) for name, t in targets.items()}, context


def _ordinary(values: Tensor) -> Tensor:
    # Views of the teacher's own maps are still inference tensors; everything computed from them is not.
    return values.clone() if values.is_inference() else values
