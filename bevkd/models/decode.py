"""Heat maps and regression maps to boxes with scores (UniDistill spec, 4.8)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bevkd.config.schema import ModelConfig
from bevkd.data.batch import Boxes
from bevkd.geometry import BEVGrid
from bevkd.models.boxcode import decode_cells, gather_code
from bevkd.models.head_outputs import DenseOutput, TaskOutput
from bevkd.models.heads.center_settings import CenterDecodeSettings
from bevkd.models.ops.cells import read_cells
from bevkd.models.ops.peaks import highest_near
from bevkd.models.ops.rotated import nms_circle, nms_rotated

_Z_LIMIT = 10.0


@dataclass
class _Candidates:
    boxes: Tensor
    labels: Tensor
    scores: Tensor
    ranks: Tensor
    frame: Tensor
    task: Tensor


@torch.no_grad()
def decode(output: DenseOutput, config: ModelConfig) -> Boxes:
    """Detections of a batch: flat, sorted by frame, within a frame by score.

    Per class the `top_k` best cells (of those that are local maxima, when `local_max` asks for it) above the threshold;
    NMS inside each task, regardless of class unless `class_wise`, by a rank that mixes heat and predicted IoU; at most
    `per_task` per task and `max_boxes` per frame. Scores are plain heat.
    """
    settings, grid = config.decode, config.grid.build()
    parts, position = [], 0
    for number, task in enumerate(output.tasks):
        classes = task.heatmap.shape[1]
        labels = output.class_order[position : position + classes]
        parts.append(_task_candidates(task, number, labels, grid, settings))
        position += classes
    found = _Candidates(*(torch.cat(columns) for columns in zip(*(vars(p).values() for p in parts), strict=True)))
    group = found.frame * len(parts) + found.task
    rivals = found.frame * (max(output.class_order) + 1) + found.labels if settings.class_wise else group
    if settings.nms == "circle":
        radius = found.boxes.new_tensor(settings.circle_radius)[found.labels]
        keep = nms_circle(found.boxes, found.ranks, radius, rivals)
    else:
        keep = nms_rotated(found.boxes, found.ranks, settings.nms_iou, rivals)
    keep = keep[torch.sort(found.ranks[keep], descending=True, stable=True).indices]
    keep = _first_per_group(keep, group, settings.per_task)
    keep = keep[torch.sort(found.scores[keep], descending=True, stable=True).indices]
    keep = _first_per_group(keep, found.frame, settings.max_boxes)
    return Boxes(found.boxes[keep], found.labels[keep], found.frame[keep], found.scores[keep])


def _task_candidates(
    task: TaskOutput, number: int, labels: tuple[int, ...], grid: BEVGrid, settings: CenterDecodeSettings
) -> _Candidates:
    height, width = task.heatmap.shape[2:]
    heat = torch.sigmoid(task.heatmap.float())
    if settings.local_max > 1:
        heat = torch.where(heat == highest_near(heat, settings.local_max), heat, 0.0)
    heat = heat.flatten(2)
    score, place = heat.topk(min(settings.top_k, height * width), dim=2)  # (B, K, k)
    frame, slot, nth = (score > settings.score_threshold).nonzero(as_tuple=True)
    score, cell = score[frame, slot, nth], frame * (height * width) + place[frame, slot, nth]
    boxes = decode_cells(gather_code(task, cell), cell, grid)
    ranks = score
    if "iou" in task.regression and settings.iou_power > 0:
        iou = ((read_cells(task.regression["iou"], cell)[:, 0] + 1) / 2).clamp(0, 1)
        ranks = score ** (1 - settings.iou_power) * iou**settings.iou_power
    limit = settings.centre_limit
    near = (boxes[:, :2].abs() <= limit).all(dim=1) & (boxes[:, 2].abs() <= _Z_LIMIT)
    label = torch.tensor(labels, device=cell.device)[slot]
    found = (boxes, label, score, ranks, frame, torch.full_like(frame, number))
    return _Candidates(*(column[near] for column in found))


def _first_per_group(index: Tensor, group: Tensor, limit: int) -> Tensor:
    """The first `limit` entries of each group of a ranked index list, sorted by group, rank order kept within."""
    index = index[torch.sort(group[index], stable=True).indices]
    ascending = group[index]
    first = torch.searchsorted(ascending, ascending)
    return index[torch.arange(len(index), device=index.device) - first < limit]
