"""Dense: class-wise response on every cell plus teacher-weighted regression; this project's own method.

    L_dense      = sum over cells and classes of |p_S - p_T|^2 * BCE(p_S, p_T) / number of boxes
    L_regression = sum w * mean over channels |r_S - r_T| / sum w,   w = teacher's score where it exceeds a threshold

Plain (not halved) teacher logits. It needs no annotation except for the number of boxes, for which the teacher's boxes
count on unlabelled frames, so that every frame of a recording can teach.

With several head tasks the weight of a task's regression maps is the best score of that task's own classes: the maps
of a task are untrained where it has no object. `per_task: false` uses the best score of all classes for all tasks.
"""

from __future__ import annotations

from typing import Any

import torch
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass
from torch import Tensor
from torch.nn import functional as F

from bevkd.distill.base import DistillContext, DistillMethod, FeatureSpec, Target, Targets
from bevkd.distill.pairwise import weighted
from bevkd.distill.sampling import gather_cells
from bevkd.errors import ConfigError
from bevkd.models.outputs import BEVOutputs
from bevkd.ranks import rank_count
from bevkd.registry import register


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class DenseConfig:
    """Options of `dense`; the weights go with a supervised heat-map loss weighted by 5."""

    dense_weight: float = 20.0
    regression_weight: float = 2.0
    threshold: float = 0.2  # teacher scores above it weight the regression
    per_task: bool = True


def read_regression(outputs: BEVOutputs, tasks: int, index: Tensor, frame: Tensor) -> Tensor:
    """Regression values (n, R / tasks) at `(task * H + iy) * W + ix` (n,) of frames (n,)."""
    maps = outputs.regression_maps()
    cells = maps.shape[-2] * maps.shape[-1]
    values = gather_cells(maps, index % cells, frame).unflatten(1, (tasks, -1))
    if tasks == 1:
        return values[:, 0]
    task = torch.div(index, cells, rounding_mode="floor")
    return values.gather(1, task[:, None, None].expand(-1, 1, values.shape[2]))[:, 0]


@register("method", "dense")
class Dense(DistillMethod):
    """Class-wise response on all cells and teacher-weighted regression."""

    Config = DenseConfig
    config: DenseConfig
    reads = frozenset({"heads"})

    def __init__(self, config: DenseConfig, student: FeatureSpec, teacher: FeatureSpec) -> None:
        super().__init__(config, student, teacher)
        if (student.classes, student.regression_maps) != (teacher.classes, teacher.regression_maps):
            raise ConfigError("dense distillation needs the same head in teacher and student")

    def weights(self) -> dict[str, float]:
        """Weights of `dense` and `regression`."""
        return {"dense": self.config.dense_weight, "regression": self.config.regression_weight}

    @classmethod
    def target_key(cls, config: DenseConfig) -> dict[str, Any]:
        """Which regression cells are kept."""
        return {"method": "dense", "threshold": config.threshold, "per_task": config.per_task}

    def targets(self, teacher: BEVOutputs, context: DistillContext) -> Targets:
        """Scores (B, K, H, W); regression (n, R) with weight and index `(task * H + iy) * W + ix` of each row."""
        every = torch.arange(context.batch_size, device=context.labelled.device)
        scores = torch.sigmoid(teacher.heatmap_logits().float())
        if self.config.per_task:
            best = torch.stack([torch.sigmoid(head.heatmap.float()).amax(1) for head in teacher.heads], 1)
        else:
            best = scores.amax(1, keepdim=True)
        tasks = best.shape[1]
        best = best.flatten(1)  # (B, tasks * H * W)
        frame, index = torch.nonzero(best > self.config.threshold, as_tuple=True)
        values = read_regression(teacher, tasks, index, frame)
        out = {
            "scores": Target(scores, every),
            "regression": Target(values, frame),
            "regression_weight": Target(best[frame, index], frame),
            "regression_index": Target(index, frame),
        }
        return {name: Target(t.values.detach(), t.frame) for name, t in out.items()}

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
        values = read_regression(student, len(student.heads) if self.config.per_task else 1, rows.values, rows.frame)
        regression = weighted(targets["regression"].values - values, targets["regression_weight"].values)
        return {"dense": term.sum() / boxes, "regression": regression}
