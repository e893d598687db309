"""Heat maps over classes: grouping them by the tasks of a head, one map of all classes, maps drawn from boxes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from bevkd.classes import LABELS
from bevkd.data.batch import Boxes
from bevkd.geometry import BEVGrid
from bevkd.geometry.gaussian import draw_gaussians, gaussian_radius, reach_of
from bevkd.models.outputs import BEVOutputs

Pool = Literal["mean_paper", "mean_code", "max"]
EPS = 1e-4  # clip of scores


def task_sizes(outputs: BEVOutputs) -> list[int]:
    """Number of classes of each task of a dense head."""
    return [head.heatmap.shape[1] for head in outputs.heads]


def in_head_order(maps: Tensor, class_order: Sequence[int]) -> Tensor:
    """Class maps (B, K, H, W) from the order of `LABELS` to that of a head; as its maps, they lie channels last."""
    known = sorted(class_order)
    order = [known.index(label) for label in class_order]
    return maps.permute(0, 2, 3, 1)[..., order].permute(0, 3, 1, 2)


def clipped_scores(logits: Tensor) -> Tensor:
    """Scores in [1e-4, 1 - 1e-4], in float32."""
    return torch.sigmoid(logits.float()).clamp(EPS, 1 - EPS)


def pooled_heat(logits: Tensor, sizes: Sequence[int], pool: Pool) -> Tensor:
    """One map (B, 1, H, W) of class logits (B, K, H, W): mean or maximum of the scores (`mean_paper`, `max`), or as
    CRKD's code the mean over tasks of the score of the mean logit of a task (`mean_code`).

    Args:
        logits: in the order of the head.
        sizes: number of classes of each task.
        pool: see above.
    """
    if pool == "mean_code":
        means = [part.mean(1, keepdim=True) for part in logits.float().split(list(sizes), 1)]
        return clipped_scores(torch.cat(means, 1)).mean(1, keepdim=True)
    return pooled_scores(torch.sigmoid(logits.float()), sizes, pool)


def pooled_scores(scores: Tensor, sizes: Sequence[int], pool: Pool) -> Tensor:
    """The same of scores; `mean_code` is the mean over tasks of the mean of a task."""
    if pool == "max":
        return scores.amax(1, keepdim=True)
    if pool == "mean_code":
        scores = torch.cat([part.mean(1, keepdim=True) for part in scores.split(list(sizes), 1)], 1)
    return scores.mean(1, keepdim=True)


def drawn_heat(
    boxes: Boxes, grid: BEVGrid, batch_size: int, class_order: Sequence[int], min_overlap: float, min_radius: int
) -> Tensor:
    """CenterPoint's heat maps (B, K, H, W) of boxes, classes in the order given. Boxes of other classes, and those
    whose centre is not on the map, are left out.

    Args:
        boxes: flat over the batch.
        grid: of the maps.
        batch_size: number of frames B.
        class_order: label of each of the K maps.
        min_overlap: IoU that a box within the radius of its Gaussian still has.
        min_radius: of a Gaussian (cells).
    """
    slots = boxes.labels.new_tensor([class_order.index(i) if i in class_order else -1 for i in range(len(LABELS))])
    slot, classes = slots[boxes.labels], len(class_order)
    plane = boxes.frame * classes + slot.clamp(min=0)
    maps = _drawn(boxes, grid, slot >= 0, plane, batch_size * classes, min_overlap, min_radius)
    return maps.view(batch_size, classes, grid.H, grid.W)


def drawn_peaks(boxes: Boxes, grid: BEVGrid, batch_size: int, min_overlap: float, min_radius: int) -> Tensor:
    """The highest of CenterPoint's heat maps over all classes, (B, H, W): all boxes whose centre is on the map.

    Args:
        boxes: flat over the batch.
        grid: of the maps.
        batch_size: number of frames B.
        min_overlap: IoU that a box within the radius of its Gaussian still has.
        min_radius: of a Gaussian (cells).
    """
    every = torch.ones_like(boxes.frame, dtype=torch.bool)
    return _drawn(boxes, grid, every, boxes.frame, batch_size, min_overlap, min_radius)


def _drawn(
    boxes: Boxes, grid: BEVGrid, known: Tensor, plane: Tensor, planes: int, min_overlap: float, min_radius: int
) -> Tensor:
    """Gaussians of boxes that are known and on the map, each on a plane of its own choice: (planes, H, W)."""
    size = boxes.boxes[:, 3:5].float() / grid.cell
    radius = gaussian_radius(size[:, 0], size[:, 1], min_overlap).floor().long().clamp(min=min_radius)
    centre = grid.to_cells(boxes.boxes[:, :2].float()).floor().long()
    seen = ((centre >= 0) & (centre < centre.new_tensor([grid.W, grid.H]))).all(1) & known
    reach = reach_of(grid.cell, min_overlap, min_radius)
    centre = torch.where(seen[:, None], centre, -2 * reach - 2)  # too far away to be seen
    return draw_gaussians(centre, radius, plane, planes, grid.H, grid.W, reach)
