"""Dense: class-wise response on every cell plus teacher-weighted regression; this project's own method.

    L_dense      = sum over cells and classes of |p_S - p_T|^2 * BCE(p_S, p_T) / number of boxes
    L_regression = sum w * mean over channels |r_S - r_T| / sum w,   w = teacher's score where it exceeds a threshold

Plain (not halved) teacher logits. It needs no annotation except for the number of boxes, for which the teacher's boxes
count on unlabelled frames, so that every frame of a recording can teach.

With several head tasks the weight of a task's regression maps is the best score of that task's own classes: the maps
of a task are untrained where it has no object. `per_task: false` uses the best score of all classes for all tasks.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from bevkd.distill.base import Compared, DistillContext, DistillMethod, FeatureSpec, Targets
from bevkd.distill.methods.dense_settings import DenseConfig
from bevkd.distill.pairwise import weighted
from bevkd.distill.taps.heads import task_regression
from bevkd.errors import ConfigError
from bevkd.models.outputs import BEVOutputs
from bevkd.ranks import rank_count
from bevkd.registry import register


@register("method", "dense")
class Dense(DistillMethod):
    """Class-wise response on all cells and teacher-weighted regression."""

    Settings = DenseConfig
    config: DenseConfig

    def __init__(self, config: DenseConfig, student: FeatureSpec, teacher: FeatureSpec) -> None:
        super().__init__(config, student, teacher)
        if (student.classes, student.regression_maps) != (teacher.classes, teacher.regression_maps):
            raise ConfigError("dense distillation needs the same head in teacher and student")

    def compared(self) -> tuple[Compared, ...]:
        """Two losses of the head."""
        return tuple(Compared(name, "heads", "heads") for name in self.weights())

    def weights(self) -> dict[str, float]:
        """Weights of `dense` and `regression`."""
        return {"dense": self.config.dense_weight, "regression": self.config.regression_weight}

    def losses(self, student: BEVOutputs, targets: Targets, context: DistillContext) -> dict[str, Tensor]:
        """`dense` and `regression`."""
        # The scores, which have no gradient, are brought into the order of the student's maps, not these into theirs.
        logits, known = student.heatmaps().float(), sorted(student.class_order)
        order = [known.index(label) for label in student.class_order]
        scores = targets["scores"].values.permute(0, 2, 3, 1)[..., order].permute(0, 3, 1, 2)
        term = (torch.sigmoid(logits) - scores).square()
        term = term * F.binary_cross_entropy_with_logits(logits, scores, reduction="none")
        boxes = rank_count(len(context.boxes), logits.device)
        rows = targets["regression_index"]
        values = task_regression(student, len(student.heads) if self.config.per_task else 1, rows.values, rows.frame)
        regression = weighted(targets["regression"].values - values, targets["regression_weight"].values)
        return {"dense": term.sum() / boxes, "regression": regression}
