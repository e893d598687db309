"""CRKD's response loss: the teacher's scores on all cells, and its boxes in cells that it thinks likely.

    L_heatmap = sum over tasks 1 / n * sum w_k BCE(p_S, p_T) (p_S - p_T)^2,     n = max(1, number of p_T > 0.3)
    L_box = sum over tasks 4 R mean over M and R maps of (sum_k w_k p_T,k) SmoothL1(b_S, b_T),   M = [sum_k p_T,k > 0.1]

The factors of both, and what M does where it would be empty, are those of the public code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from bevkd.data.batch import Target
from bevkd.distill.heat import clipped_scores, task_sizes
from bevkd.distill.sampling import gather_cells
from bevkd.distill.taps.heads import task_regression
from bevkd.models.outputs import REGRESSION, BEVOutputs
from bevkd.ranks import rank_count

STEP = 0.01  # by which a threshold is lowered
POSITIVE = 0.3  # teacher scores above it are counted
_BOX = 4.0
_MAPS = sum(width for name, width in REGRESSION if name != "iou")  # which comes last, and is not compared


def lowered(top: Tensor, threshold: float, least: float) -> Tensor:
    """For maxima (...) the highest threshold below each, of `threshold` and its lower steps down to `least`; infinite
    where there is none.
    """
    levels = [threshold]
    while levels[-1] - STEP > least - STEP / 2:
        levels.append(levels[-1] - STEP)
    steps = top.new_tensor(levels)
    found = torch.where(top[..., None] > steps, steps, -torch.inf).amax(-1)
    return torch.where(torch.isinf(found), torch.inf, found)


@dataclass
class LikelyBoxes:
    """The teacher's boxes in likely cells.

    Attributes:
        index: `(task * H + iy) * W + ix` (n,) of the cells, see `LikelyCells`.
        regression: (n, 10 or 11) of the task of each.
        threshold, least: of the sum of a task's scores, and how far it may be lowered.
    """

    index: Target
    regression: Tensor
    threshold: float
    least: float


def soft_response(
    student: BEVOutputs, teacher_logits: Tensor, likely: LikelyBoxes, class_weights: Sequence[float]
) -> tuple[Tensor, Tensor]:
    """`L_heatmap` and `L_box`, see the module.

    Where a batch has no cell above the threshold for a task, the threshold is lowered as far as it has to be. That is
    decided within a process, so that it may be another one on each.

    Args:
        student: its outputs.
        teacher_logits: (B, K, H, W) in the order of the student's head.
        likely: the teacher's boxes.
        class_weights: w_k in the same order.
    """
    sizes = task_sizes(student)
    p_s, p_t = clipped_scores(student.heatmaps()), clipped_scores(teacher_logits)
    weight = p_t.new_tensor(list(class_weights))
    term = F.binary_cross_entropy(p_s, p_t, reduction="none") * (p_s - p_t).square()
    heat = weight * term.sum((0, 2, 3))
    positive = rank_count(_by_task((p_t > POSITIVE).sum((0, 2, 3)), sizes))
    heatmap = (_by_task(heat, sizes) / positive).sum()

    index, frame = likely.index.values, likely.index.frame
    area = p_t.shape[-2] * p_t.shape[-1]
    task = torch.div(index, area, rounding_mode="floor")
    owner = torch.tensor([t for t, size in enumerate(sizes) for _ in range(size)], device=index.device)
    scores = gather_cells(p_t, index % area, frame) * (owner == task[:, None])  # (n, K)
    total, nothing = scores.sum(1), scores.new_zeros(len(sizes))
    top = nothing.scatter_reduce(0, task, total, reduce="amax")
    counted = (total > lowered(top, likely.threshold, likely.least)[task]).float()
    own = task_regression(student, len(sizes), index, frame)[:, :_MAPS]
    error = F.smooth_l1_loss(own, likely.regression[:, :_MAPS], reduction="none").mean(1)
    error = nothing.index_add(0, task, counted * (scores @ weight) * error)
    cells = rank_count(nothing.index_add(0, task, counted))
    return heatmap, (_BOX * _MAPS * error / cells).sum()


def _by_task(values: Tensor, sizes: Sequence[int]) -> Tensor:
    """Sums (tasks,) of values (K,) of classes."""
    return torch.stack([part.sum() for part in values.split(list(sizes))])
