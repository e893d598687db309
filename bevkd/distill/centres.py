"""Cells of box centres, and what a dense head says there."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from bevkd.classes import LABELS
from bevkd.data.batch import Boxes
from bevkd.distill.heat import task_sizes
from bevkd.distill.sampling import gather_cells
from bevkd.distill.taps.heads import task_regression
from bevkd.geometry import BEVGrid
from bevkd.models.outputs import BEVOutputs


class Centres(NamedTuple):
    """Where the centres of boxes (N,) are.

    Attributes:
        valid: whether the box is on the map and of a class of the head; if not, the rest is 0, but for the frame.
        frame: of the box.
        task: whose class it is.
        slot: place of its class among the heat maps of the head.
        cell: flat cell `iy * W + ix` that holds the centre.
    """

    valid: Tensor
    frame: Tensor
    task: Tensor
    slot: Tensor
    cell: Tensor


def find_centres(outputs: BEVOutputs, boxes: Boxes, grid: BEVGrid) -> Centres:
    """The cells of the centres of boxes on the maps of a head.

    Args:
        outputs: of a network with a dense head.
        boxes: flat over the batch.
        grid: of the maps.
    """
    order, sizes, device = outputs.class_order, task_sizes(outputs), boxes.labels.device
    owners = torch.tensor([task for task, size in enumerate(sizes) for _ in range(size)], device=device)
    slots = torch.tensor([order.index(i) if i in order else -1 for i in range(len(LABELS))], device=device)
    slot = slots[boxes.labels]
    centre = grid.to_cells(boxes.boxes[:, :2].float()).floor().long()
    valid = ((centre >= 0) & (centre < centre.new_tensor([grid.W, grid.H]))).all(1) & (slot >= 0)
    slot = torch.where(valid, slot, 0)
    cell = torch.where(valid, centre[:, 1] * grid.W + centre[:, 0], 0)
    return Centres(valid, boxes.frame, owners[slot], slot, cell)


def centre_regression(outputs: BEVOutputs, centres: Centres) -> Tensor:
    """Regression (N, R / tasks) of the task of each box in the cell of its centre; where a box is not valid, that of
    the first cell.
    """
    cells = outputs.heads[0].heatmap.shape[-2] * outputs.heads[0].heatmap.shape[-1]
    return task_regression(outputs, len(outputs.heads), centres.task * cells + centres.cell, centres.frame)


def first_cell(outputs: BEVOutputs) -> Tensor:
    """Regression (B, R) of all tasks in the first cell of the map."""
    maps = outputs.regression_maps()
    frame = torch.arange(len(maps), device=maps.device)
    return gather_cells(maps, torch.zeros_like(frame), frame)
