"""`DistillEngine`: from a student's outputs and a batch to one weighted loss, with a live or a cached teacher."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from bevkd.data.batch import Batch
from bevkd.distill.base import DistillContext, DistillMethod, Targets
from bevkd.distill.cache import unpacked
from bevkd.distill.teacher import SCORE_THRESHOLD, TeacherNet, expose, joined_boxes, teach
from bevkd.errors import ConfigError, DataError
from bevkd.geometry import BEVGrid
from bevkd.models.layers import full_precision, reads_are_free
from bevkd.models.outputs import BEVOutputs


class DistillEngine(nn.Module):
    """Applies a method during training. Its parameters and state are those of the method's adapters, nothing else.

    Losses run in float32. Under mixed precision a live teacher is given the same batch as those whose targets are
    stored, in float32, and computes in the same precision (`bevkd.train.runtime.Autocast`).

    Args:
        method: the distillation method.
        grid: BEV grid that teacher and student share.
        teacher: a live teacher, frozen and kept in eval mode whatever mode the engine is in.
        cached: whether batches bring the teacher's stored targets instead.
        score_threshold: the teacher's boxes above it stand in for annotations on unlabelled frames.

    Raises:
        ConfigError: no or two sources of targets.
    """

    def __init__(
        self,
        method: DistillMethod,
        grid: BEVGrid,
        teacher: nn.Module | None = None,
        *,
        cached: bool = False,
        score_threshold: float = SCORE_THRESHOLD,
    ) -> None:
        super().__init__()
        if method.uses_teacher and (teacher is not None) == cached:
            raise ConfigError("a distillation method needs either a live teacher or a teacher cache")
        self.method, self.grid, self.cached, self.score_threshold = method, grid, cached, score_threshold
        if teacher is not None:
            expose(teacher, method.wanted.features)
        # In a tuple, so that the teacher is no sub-module: `train()`, `parameters()`, `state_dict()` and a
        # distributed wrapper then never see it.
        self._teacher = (teacher.eval().requires_grad_(False),) if teacher is not None else ()

    def _apply(self, fn, recurse: bool = True):  # type: ignore[no-untyped-def]
        for teacher in self._teacher:
            teacher._apply(fn)
        return super()._apply(fn, recurse)

    def forward(self, student: BEVOutputs, batch: Batch) -> dict[str, Tensor]:
        """Weighted `total` (float32, with a graph), the method's factor included, and the detached, unweighted losses
        by name.

        Raises:
            DataError: the batch lacks the targets of its teacher.
        """
        targets, context = self.targets(batch)
        with full_precision(batch.labelled):
            losses = self.method.losses(student, targets, context)
            weights = self.method.weights()
            factor = self.method.factor
            total = torch.stack([factor * weights[name] * loss for name, loss in losses.items()]).sum()
        return {"total": total} | {name: loss.detach() for name, loss in losses.items()}

    def targets(self, batch: Batch) -> tuple[Targets, DistillContext]:
        """Teacher targets of a batch, from the live teacher or as the batch brings them."""
        if self._teacher:
            net, compact = cast(TeacherNet, self._teacher[0]), reads_are_free(batch.labelled.device)
            view = batch if batch.teacher is None else batch.teacher
            return teach(self.method.wanted, net, view, self.grid, self.score_threshold, compact=compact)
        targets: Targets = {}
        boxes = batch.boxes
        if self.cached:
            if batch.targets is None:
                raise DataError("the batch brings no teacher targets", token=batch.tokens[0])
            targets, taught = unpacked(batch.targets)
            boxes = joined_boxes(boxes, taught)
        return targets, DistillContext(self.grid, len(batch), boxes, batch.labelled)
