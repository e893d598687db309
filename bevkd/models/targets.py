"""Training targets of the CenterPoint head: UniDistill's nine nearest anchors, or Gaussian heat maps.

Both use one regression convention: the offset of the centre to the *corner* `(ix, iy)` of the positive cell, in
cells. No loop over frames or boxes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bevkd.config.schema import HeadConfig
from bevkd.data.batch import Boxes
from bevkd.geometry import BEVGrid
from bevkd.geometry.gaussian import draw_gaussians, gaussian_radius, reach_of
from bevkd.models.boxcode import encode
from bevkd.models.tasks import class_order

# Candidate window around a centre. 9 x 9 always holds the nine nearest anchors, also at the border and for centres
# beyond it, where they line up along the edge.
_WINDOW = 9


@dataclass
class TaskTargets:
    """Targets of one head task.

    Attributes:
        heatmap: (B, K, H, W) in [0, 1].
        peaks: number of cells whose heat-map target is exactly 1, what the focal sum is divided by.
        positive: (n,) flat cells `(b * H + iy) * W + ix`, ascending, without duplicates.
        regression: (n, 10), see `bevkd.models.boxcode.encode`.
        box: (n,) index of the annotation.
    """

    heatmap: Tensor
    peaks: int
    positive: Tensor
    regression: Tensor
    box: Tensor


def nine_nearest(uv: Tensor, width: int, height: int) -> tuple[Tensor, Tensor, Tensor]:
    """The nine anchors (integer cell corners of the grid) nearest to each centre.

    Ties go to the lower row, then the lower column.

    Args:
        uv: (M, 2) continuous cell coordinates, inside the grid or not.
        width: anchors along u.
        height: anchors along v.

    Returns:
        ix, iy (M, 9) int64 and squared distance (M, 9), nearest first.
    """
    sizes = (min(_WINDOW, width), min(_WINDOW, height))
    first = [
        (torch.round(uv[:, axis]).long() - _WINDOW // 2).clamp(min=0).clamp(max=limit - size)
        for axis, (limit, size) in enumerate(zip((width, height), sizes, strict=True))
    ]
    step_y, step_x = torch.meshgrid(
        torch.arange(sizes[1], device=uv.device), torch.arange(sizes[0], device=uv.device), indexing="ij"
    )
    ix = first[0][:, None] + step_x.reshape(1, -1)
    iy = first[1][:, None] + step_y.reshape(1, -1)
    exact = uv.double()
    distance = (exact[:, :1] - ix) ** 2 + (exact[:, 1:] - iy) ** 2
    order = torch.sort(distance, dim=1, stable=True).indices[:, :9]
    return ix.gather(1, order), iy.gather(1, order), distance.gather(1, order)


def _nearest_box_per_cell(cell: Tensor, distance: Tensor) -> Tensor:
    """Indices into the candidate list: for each distinct cell the nearest candidate (the first one on ties)."""
    order = torch.sort(distance, stable=True).indices
    order = order[torch.sort(cell[order], stable=True).indices]
    ascending = cell[order]
    first = torch.ones_like(ascending, dtype=torch.bool)
    first[1:] = ascending[1:] != ascending[:-1]
    return order[first]


class TargetAssigner:
    """Annotations to `TaskTargets`, as `head.targets` says.

    Args:
        head: tasks, kind of targets, Gaussian settings.
        grid: grid of the heat maps.
    """

    def __init__(self, head: HeadConfig, grid: BEVGrid) -> None:
        self.head, self.grid = head, grid
        order = class_order(head.tasks)
        task_of, slot_of = torch.full((max(order) + 1,), -1), torch.full((max(order) + 1,), -1)
        position = 0
        for task, members in enumerate(head.tasks):
            for slot in range(len(members)):
                task_of[order[position]], slot_of[order[position]] = task, slot
                position += 1
        self._task_of, self._slot_of = task_of, slot_of

    def __call__(self, boxes: Boxes, batch_size: int) -> list[TaskTargets]:
        """Targets per task; boxes of classes that no task has are ignored."""
        known = boxes.labels < len(self._task_of)
        task = self._task_of.to(boxes.labels.device)[boxes.labels.clamp(max=len(self._task_of) - 1)]
        task = torch.where(known, task, -1)
        slot = self._slot_of.to(boxes.labels.device)[boxes.labels.clamp(max=len(self._slot_of) - 1)]
        uv = self.grid.to_cells(boxes.boxes[:, :2].double())
        out = []
        for number, members in enumerate(self.head.tasks):
            chosen = (task == number).nonzero().squeeze(1)
            assign = self._gaussian if self.head.targets == "gaussian" else self._nine_nearest
            out.append(assign(boxes, chosen, uv[chosen], slot[chosen], len(members), batch_size))
        return out

    def _nine_nearest(
        self, boxes: Boxes, chosen: Tensor, uv: Tensor, slot: Tensor, classes: int, batch_size: int
    ) -> TaskTargets:
        grid = self.grid
        positive, box = self._nine_positives(boxes.frame[chosen], uv)
        heatmap = torch.zeros(batch_size, classes, grid.H * grid.W, device=uv.device)
        area = grid.H * grid.W
        heatmap[torch.div(positive, area, rounding_mode="floor"), slot[box], positive % area] = 1.0
        return self._finish(heatmap, len(positive), boxes, chosen[box], uv[box], positive)

    def _nine_positives(self, frame: Tensor, uv: Tensor) -> tuple[Tensor, Tensor]:
        """Flat cells around every centre, each owned by its nearest centre, and the index of that centre."""
        ix, iy, distance = nine_nearest(uv, self.grid.W, self.grid.H)
        cell = ((frame[:, None] * self.grid.H + iy) * self.grid.W + ix).flatten()
        winner = _nearest_box_per_cell(cell, distance.flatten())
        return cell[winner], torch.div(winner, ix.shape[1], rounding_mode="floor")

    def _gaussian(
        self, boxes: Boxes, chosen: Tensor, uv: Tensor, slot: Tensor, classes: int, batch_size: int
    ) -> TaskTargets:
        grid = self.grid
        corner = torch.floor(uv).long()
        inside = ((corner >= 0) & (corner < corner.new_tensor([grid.W, grid.H]))).all(dim=1)
        chosen, uv, slot, corner = chosen[inside], uv[inside], slot[inside], corner[inside]
        size = boxes.boxes[chosen, 3:5].float() / grid.cell
        radius = gaussian_radius(size[:, 0], size[:, 1], self.head.min_overlap).long().clamp(min=self.head.min_radius)
        frame = boxes.frame[chosen]
        reach = reach_of(grid.cell, self.head.min_overlap, self.head.min_radius)
        plane = frame * classes + slot
        heatmap = draw_gaussians(corner, radius, plane, batch_size * classes, grid.H, grid.W, reach)
        cell = (frame * grid.H + corner[:, 1]) * grid.W + corner[:, 0]
        distance = ((uv - corner - 0.5) ** 2).sum(dim=1)
        winner = _nearest_box_per_cell(cell, distance)
        peaks, positive = len(winner), cell[winner]
        if self.head.regression_cells == 9:
            positive, winner = self._nine_positives(frame, uv)
        heatmap = heatmap.view(batch_size, classes, -1)
        return self._finish(heatmap, peaks, boxes, chosen[winner], uv[winner], positive)

    def _finish(
        self, heatmap: Tensor, peaks: int, boxes: Boxes, box: Tensor, uv: Tensor, positive: Tensor
    ) -> TaskTargets:
        grid = self.grid
        ix, iy = positive % grid.W, torch.div(positive, grid.W, rounding_mode="floor") % grid.H
        regression = encode(boxes.boxes[box].double(), uv, ix, iy).float()
        return TaskTargets(heatmap.unflatten(2, (grid.H, grid.W)), peaks, positive, regression, box)
