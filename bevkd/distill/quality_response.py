"""SimDistill's response loss (MMD-P): quality focal loss between heat maps, smooth L1 between boxes.

    L_cls = 0.25 sum over frames b and classes c of [sum over cells of BCE(z_S, q) (p - q)^2] / max(1, #{q > 0.1})
    L_box = 0.25 sum over frames b and tasks t of mean over objects k of Q_k sum over d of SmoothL1(w_d (b_S - b_T))

with z logits, p = sigmoid(z_S), q = sigmoid(z_T), k the objects of a task by the cell of their centre, d the ten values
of a box, w 0.2 for velocities and else 1, a smooth L1 that is quadratic below 1/9, and Q a quality, mostly 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from bevkd.distill.centres import Centres
from bevkd.distill.heat import clipped_scores
from bevkd.models.boxcode import CODE_WIDTH

FACTOR = 0.25
POSITIVE = 0.1  # teacher scores above it are counted
SLOTS = 500  # boxes of a task in a frame that the public code makes room for
_BETA = 1 / 9
_VELOCITY = 0.2
_SINE = 6  # place of the sine of the yaw in the code of a box


def class_response(
    logits: Tensor, taught: Tensor, sizes: Sequence[int], double_sigmoid: bool = False, mixed_counts: bool = False
) -> Tensor:
    """`L_cls`, see the module.

    Args:
        logits: of the student, (B, K, H, W).
        taught: logits of the teacher, the same.
        sizes: number of classes of each task.
        double_sigmoid: scores, clipped to [1e-4, 1 - 1e-4], stand in for the logits of both, as in the public code.
        mixed_counts: scores are counted as in the public code, which takes a task's maps (n, cells) for (cells, n): in
            a map of n classes every n-th cell has a count of its own. Cells are numbered there with y running fastest.
    """
    z, z_t = (clipped_scores(one) if double_sigmoid else one.float() for one in (logits, taught))
    p, q = torch.sigmoid(z), torch.sigmoid(z_t)
    term = F.binary_cross_entropy_with_logits(z, q, reduction="none") * (p - q).square()
    positive = q > POSITIVE
    if not mixed_counts:
        counts = positive.sum((2, 3)).clamp(min=1)
        return FACTOR * (term.sum((2, 3)) / counts).sum()
    parts = []
    for one, found, n in zip(term.split(list(sizes), 1), positive.split(list(sizes), 1), sizes, strict=True):
        columns = (one.transpose(2, 3).flatten(1), found.transpose(2, 3).flatten(1))  # (B, n * cells), y runs fastest
        mixed, hits = (values.unflatten(1, (n, -1, n)) for values in columns)
        parts.append((mixed.sum(2) / hits.sum(2).clamp(min=1)).sum())
    return FACTOR * torch.stack(parts).sum()


def box_errors(own: Tensor, taught: Tensor, sine_difference: bool = False) -> Tensor:
    """Sum over the ten values of the smooth L1 (...) of boxes (..., 10 or more): in the order of `REGRESSION`.

    Args:
        own: the student's.
        taught: the teacher's.
        sine_difference: of the two sines of the yaw the sine of their difference counts, as in the public code, which
            takes them for angles.
    """
    difference = own[..., :CODE_WIDTH] - taught[..., :CODE_WIDTH]
    if sine_difference:
        before, at, after = difference.split([_SINE, 1, CODE_WIDTH - _SINE - 1], -1)
        difference = torch.cat([before, at.sin(), after], -1)
    weight = difference.new_tensor([1.0] * (CODE_WIDTH - 2) + [_VELOCITY] * 2)
    weighted = difference * weight
    return F.smooth_l1_loss(weighted, torch.zeros_like(weighted), reduction="none", beta=_BETA).sum(-1)


def box_response(
    own: Tensor,
    taught: Tensor,
    centres: Centres,
    frames: int,
    tasks: int,
    quality: Tensor | None = None,
    sine_difference: bool = False,
    padding: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """`L_box`, see the module; tasks without an object in a frame add nothing.

    Args:
        own: boxes of the student (N, 10 or more), by the cells of their centres.
        taught: of the teacher, the same.
        centres: of the boxes.
        frames: of the batch.
        tasks: of the head.
        quality: Q (N,); None: 1.
        sine_difference: see `box_errors`.
        padding: what student and teacher say in the first cell of the map (B, tasks, 10 or more): it counts as often
            as a task has less than `SLOTS` objects, and the mean is over as many. None: only objects count.
    """
    valid = centres.valid
    # Where a box does not count nothing is said of it: not even an overflow there reaches the gradient.
    errors = box_errors(torch.where(valid[:, None], own, taught), taught, sine_difference)
    if quality is not None:
        errors = errors * quality
    group = centres.frame * tasks + centres.task
    counts = errors.new_zeros(frames * tasks).index_add(0, group, valid.float())
    sums = errors.new_zeros(frames * tasks).index_add(0, group, torch.where(valid, errors, 0.0))
    if padding is None:
        return FACTOR * (sums / counts.clamp(min=1)).sum()
    rest = box_errors(*padding, sine_difference).flatten()
    return FACTOR * ((sums + (SLOTS - counts).clamp(min=0) * rest) / SLOTS).sum()
