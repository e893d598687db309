"""Losses: of a CenterPoint head (heat map, regression, IoU-awareness, optional 3D IoU), and of depths.

See UniDistill spec, 4.7 and 8.3.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy, binary_cross_entropy_with_logits

from bevkd.config.schema import ModelConfig
from bevkd.data.batch import Batch
from bevkd.data.past_cameras import past_of
from bevkd.models.boxcode import CODE, CODE_WIDTH, decode_cells
from bevkd.models.layers import full_precision, reads_are_free
from bevkd.models.ops.cells import read_cells
from bevkd.models.ops.rotated import iou_3d, iou_nearest_bev
from bevkd.models.outputs import REGRESSION, BEVOutputs, TaskOutput
from bevkd.models.targets import TargetAssigner, TaskTargets
from bevkd.ranks import in_parts, one_over_ranks, rank_count, rank_mean

_EPS = 1e-4
_ALPHA = 0.25
_ROT = slice(6, 8)  # sine and cosine of the yaw in the code of a box
_VEL = slice(8, 10)


def binary_heatmap_loss(logits: Tensor, target: Tensor, counted: Tensor | float = 1.0) -> Tensor:
    """Focal sum (alpha 0.25, gamma 2) for 0/1 targets, not yet divided by the number of positives.

    Args:
        logits: (...).
        target: (...).
        counted: factor of each cell, 0 where there is no annotation; broadcast.
    """
    p = torch.sigmoid(logits).clamp(_EPS, 1 - _EPS)
    positive = _ALPHA * (1 - p) ** 2 * p.log() * target
    negative = (1 - _ALPHA) * p**2 * torch.log(1 - p + _EPS) * (1 - target)
    return -((positive + negative) * counted).sum()


def gaussian_heatmap_loss(logits: Tensor, target: Tensor, counted: Tensor | float = 1.0) -> Tensor:
    """CornerNet's focal sum (alpha 2, beta 4): cells near a peak are discounted, only exact 1 is positive.

    With q the probability of the wrong answer, 1 - p at a peak and p elsewhere, both halves of the published formula
    read `-w q^2 log(1 - q)`: one chain of operations over the map instead of two.
    """
    peak = target == 1
    weight = torch.where(peak, 1.0, (1 - target) ** 4) * counted
    wrong = torch.sigmoid(torch.where(peak, -logits, logits)).clamp(_EPS, 1 - _EPS)
    return -(wrong.square() * torch.log1p(-wrong) * weight).sum()


def axis_error(code: Tensor, target: Tensor) -> Tensor:
    """L1 (n,) between the doubled angles of codes (n, 10): that of predicted and true headings, front and rear alike.

    Where an object looks the same from both ends, sine and cosine are asked to be a value and its negative at once. L1
    is met by anything in between, also by zero, and with the sign the axis is lost. The doubled angle has no such sign:
    its sine and cosine, `2 s c` and `c^2 - s^2` of the code, are learnt whatever the front is.
    """

    def doubled(rot: Tensor) -> Tensor:
        sine, cosine = rot[:, 0], rot[:, 1]
        return torch.stack([2 * sine * cosine, cosine**2 - sine**2], dim=1)

    return (doubled(code[:, _ROT]) - doubled(target[:, _ROT])).abs().sum(dim=1)


def depth_loss(
    logits: Tensor, depth: Tensor, depth_min: float, depth_step: float, *, compact: bool | None = None
) -> Tensor:
    """BEVDepth's supervision: BCE of each softmax bin against the one-hot bin, summed over bins, mean over pixels.

    Args:
        logits: (B, N, D, h, w).
        depth: (B, N, h, w) metres, 0 where unknown.
        depth_min: lower edge of bin 0 (m).
        depth_step: width of a bin (m).
        compact: whether to look at the pixels of known depth only, whose number a device would have to tell first.
            None: on the CPU.
    """
    number, valid = _depth_bins(depth, depth_min, depth_step, logits.shape[2])
    by_pixel, count = logits.float().movedim(2, -1), valid.sum()
    if reads_are_free(logits.device) if compact is None else compact:
        by_pixel, number, valid = by_pixel[valid], number[valid], valid[valid]
    probability = torch.softmax(by_pixel, dim=-1)  # (..., D)
    target = torch.zeros_like(probability).scatter_(-1, number[..., None], 1.0)
    wrong = binary_cross_entropy(probability, target, reduction="none")
    return (wrong * valid[..., None]).sum() / rank_count(count)


def depth_bin_loss(logits: Tensor, depth: Tensor, depth_min: float, depth_step: float) -> Tensor:
    """BEVDepth's supervision as DistillBEV's students have it: BCE of the sigmoid of each bin against the one-hot bin,
    mean over all bins of all pixels, of which those of unknown depth count zero (DistillBEV spec, 3.1.5).

    Args:
        logits: (B, N, D, h, w).
        depth: (B, N, h, w) metres, 0 where unknown.
        depth_min: lower edge of bin 0 (m).
        depth_step: width of a bin (m).
    """
    number, valid = _depth_bins(depth, depth_min, depth_step, logits.shape[2])
    target = torch.zeros_like(logits, dtype=torch.float32).scatter_(2, number[:, :, None], 1.0)
    wrong = binary_cross_entropy_with_logits(logits.float(), target, reduction="none")
    return (wrong * valid[:, :, None]).sum() / rank_count(logits.numel(), logits.device)


def _depth_bins(depth: Tensor, depth_min: float, depth_step: float, bins: int) -> tuple[Tensor, Tensor]:
    """The bin of each depth (int64), 0 where it is unknown or in none, and whether it is in one."""
    number = torch.floor((depth - depth_min) / depth_step)
    valid = (number >= 0) & (number < bins) & (depth > 0)
    return torch.where(valid, number, 0).long(), valid


def _is_near(loc: Tensor, norm: Tensor) -> Tensor:
    """1 where the mean of L_loc over all ranks and parts is below 1, else 0; `norm` is what it was divided by."""
    if in_parts():  # the mean of a part that is only counted is not yet over all of them: multiplied out again
        return (rank_mean(loc * norm) < norm).float()
    return (rank_mean(loc) < 1).float()


class DetectionLoss(nn.Module):
    """Weighted loss of a CenterPoint head.

    Auto-scaling off: `heatmap_weight * L_hm + loc_weight * L_loc + iou_aware_weight * L_iouaware + iou_weight * L_iou`,
    each summed over the tasks. Auto-scaling on: per task `sum_i 0.5 / s_i^2 * L_i + log(1 + s_i^2)` over the first
    three terms, with s_i learnable and shared by the tasks, in place of their weights.

    Annotations count on labelled frames only.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.grid = config.grid.build()
        self.assign = TargetAssigner(config.head, self.grid)
        self.scales: nn.Parameter | None = None
        if config.loss.auto_scaling:
            self.scales = nn.Parameter(torch.ones(3 if config.head.iou_branch else 2))

    def forward(self, outputs: BEVOutputs, batch: Batch) -> dict[str, Tensor]:
        """`total` with its graph and the detached, unweighted terms `heatmap, loc[, iou_aware][, iou]`."""
        with full_precision(outputs.low):
            return self._losses(outputs, batch)

    def _losses(self, outputs: BEVOutputs, batch: Batch) -> dict[str, Tensor]:
        targets = self.assign(batch.boxes, len(batch))
        terms: dict[str, Tensor] = {}
        total = outputs.low.new_zeros((), dtype=torch.float32)
        for task, target in zip(outputs.heads, targets, strict=True):
            named = self._task(task, target, batch)
            total = total + self._combine(named)
            for name, value in named.items():
                terms[name] = terms[name] + value.detach() if name in terms else value.detach()
        return {"total": total, **terms}

    def _task(self, task: TaskOutput, target: TaskTargets, batch: Batch) -> dict[str, Tensor]:
        """Unweighted terms of one task."""
        weights, head = self.config.loss, self.config.head
        count, unit = rank_mean(target.counted.sum()), one_over_ranks()
        heat = gaussian_heatmap_loss if head.targets == "gaussian" else binary_heatmap_loss
        peaks = rank_count(target.peaks)
        counted = batch.labelled[:, None, None, None].float()
        heatmap = heat(task.heatmap.float(), target.heatmap, counted) / peaks
        values = read_cells(task.joined, target.positive)
        # Cells that do not count read one that nothing may ever have taught: with the truth in their place, not even
        # an overflow there reaches the gradient.
        counts = target.counted > 0
        code = torch.where(counts[:, None], values[:, :CODE_WIDTH], target.regression)
        error = self._as_learnt(code - target.regression, target, batch)
        per_value = self._distance(error).sum(dim=0) / (count + _EPS * unit)
        per_value_weight = per_value.new_tensor([1.0] * 8 + [weights.velocity_weight] * 2)
        loc = (per_value * per_value_weight).sum()
        if weights.axis_weight > 0:
            loc = loc + weights.axis_weight * (axis_error(code, target.regression).sum() / (count + _EPS * unit))
        named = {"heatmap": heatmap, "loc": loc}
        if not head.iou_branch and weights.iou_weight == 0:
            return named
        truth = decode_cells(target.regression, target.positive, self.grid)
        if head.iou_branch:
            overlap = iou_nearest_bev(decode_cells(code.detach(), target.positive, self.grid), truth)
            wanted = 2 * overlap - 1
            wrong = (torch.where(counts, values[:, CODE_WIDTH], wanted) - wanted).abs()
            named["iou_aware"] = wrong.sum() / (count + _EPS * unit)
        if weights.iou_weight > 0:
            # Far from the truth the overlap has no gradient to speak of: the term waits until L_loc < 1. As a factor,
            # not a branch, so that no value has to leave the device.
            overlap = iou_3d(decode_cells(code, target.positive, self.grid), truth)
            near = _is_near(named["loc"], count + _EPS * unit)
            named["iou"] = near * ((1 - overlap) * target.counted).sum() / count.clamp(min=unit)
        return named

    def _as_learnt(self, error: Tensor, target: TaskTargets, batch: Batch) -> Tensor:
        """Errors (n, 10) in the units in which the network learns: of velocities in m, where it learns displacements.

        The head's maps have displacements divided by their seconds (`CenterHead.in_units`), so that
        `seconds * (v - v_true)` is what it said less the true displacement `seconds * v_true`. Where hardly any time
        has passed, as where the current images stand in for earlier ones, hardly anything is asked of it.
        """
        if self.config.head.velocity == "speed":
            return error
        frame = torch.div(target.positive, self.grid.H * self.grid.W, rounding_mode="floor")
        seconds = past_of(batch).seconds[frame, None]
        return torch.cat([error[:, : _VEL.start], error[:, _VEL] * seconds], dim=1)

    def _distance(self, error: Tensor) -> Tensor:
        """L1 of regression errors (n, 10), or Huber where `loss.huber` names the branch.

        L1 asks for the median: with two in three objects at rest it is met by predicting no motion at all, and its
        gradient hardly pulls away from there. Huber asks for the mean of what lies within its width.
        """
        l1 = error.abs()
        if not self.config.loss.huber:
            return l1
        named = {str(name): width for name, width in self.config.loss.huber.items()}
        widths = [named.get(name, 0.0) for name, size in REGRESSION if name in CODE for _ in range(size)]
        width = l1.new_tensor(widths)
        near = l1 < width
        return torch.where(near, 0.5 * error**2 / width.clamp(min=_EPS), l1 - 0.5 * width)

    def _combine(self, named: dict[str, Tensor]) -> Tensor:
        weights = self.config.loss
        scaled = [named[name] for name in ("heatmap", "loc", "iou_aware") if name in named]
        if self.scales is not None:
            square = self.scales**2
            total = (0.5 / square * torch.stack(scaled) + torch.log1p(square)).sum()
        else:
            factors = (weights.heatmap_weight, weights.loc_weight, weights.iou_aware_weight)
            total = torch.stack([f * value for f, value in zip(factors, scaled, strict=False)]).sum()
        return total + weights.iou_weight * named["iou"] if "iou" in named else total
