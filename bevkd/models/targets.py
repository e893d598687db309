"""Training targets of the CenterPoint head: UniDistill's nine nearest anchors, or Gaussian heat maps.

Both use one regression convention: the offset of the centre to the *corner* `(ix, iy)` of the positive cell, in
cells. No loop over frames or boxes. How many cells are positive depends on the boxes; on an accelerator that number
would have to be read back, so that there all candidates stay, those that do not count with weight 0.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bevkd.data.batch import Boxes
from bevkd.geometry import BEVGrid
from bevkd.geometry.gaussian import draw_gaussians, gaussian_radius, reach_of
from bevkd.models.boxcode import encode
from bevkd.models.heads.center_settings import CenterSettings
from bevkd.models.layers import reads_are_free
from bevkd.models.tasks import class_order

# Candidate window around a centre. 9 x 9 always holds the nine nearest anchors, also at the border and for centres
# beyond it, where they line up along the edge.
_WINDOW = 9
_NOWHERE = torch.iinfo(torch.int64).max


@dataclass
class TaskTargets:
    """Targets of one head task.

    Attributes:
        heatmap: (B, K, H, W) in [0, 1].
        peaks: () number of cells whose heat-map target is exactly 1, what the focal sum is divided by.
        positive: (n,) flat cells `(b * H + iy) * W + ix`; those that count are ascending, without duplicates.
        counted: (n,) float, 1 for cells that count, 0 for the rest of the candidates (`positive` is 0 there).
        regression: (n, 10), see `bevkd.models.boxcode.encode`; finite in every row.
        box: (n,) index of the annotation.
    """

    heatmap: Tensor
    peaks: Tensor
    positive: Tensor
    counted: Tensor
    regression: Tensor
    box: Tensor

    def compacted(self) -> TaskTargets:
        """Without the candidates that do not count; how many do has to be read back from the device."""
        kept = self.counted > 0
        rest = {name: getattr(self, name)[kept] for name in ("positive", "counted", "regression", "box")}
        return replace(self, **rest)


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


@dataclass
class _Owned:
    """Candidates in the order of their cells, of which the nearest (the first one on ties) of each cell counts."""

    winner: Tensor  # (n,) into the boxes of `_Members`
    cell: Tensor  # (n,) flat, 0 where it does not count
    counts: Tensor  # (n,) bool


@dataclass
class _Members:
    """Boxes that one task may learn from, and the rest with `usable` off. See `Boxes` and `TargetAssigner`."""

    index: Tensor  # (m,) into the annotations
    usable: Tensor  # (m,) bool
    uv: Tensor  # (m, 2)
    frame: Tensor  # (m,)
    slot: Tensor  # (m,) position of the class in the task, 0 if not usable


def _nearest_box_per_cell(cell: Tensor, distance: Tensor, usable: Tensor) -> _Owned:
    """The owner of each cell, from m boxes with k candidate cells each: cells, distances and use (m, k)."""
    per_box = cell.shape[1]
    cell, distance, usable = cell.flatten(), distance.flatten(), usable.flatten()
    order = torch.sort(distance, stable=True).indices
    key = torch.where(usable, cell, _NOWHERE)[order]
    ascending, by_cell = torch.sort(key, stable=True)
    counts = ascending != _NOWHERE
    counts[1:] &= ascending[1:] != ascending[:-1]
    winner = torch.div(order[by_cell], per_box, rounding_mode="floor")
    return _Owned(winner, torch.where(counts, ascending, 0), counts)


class TargetAssigner:
    """Annotations to `TaskTargets`, as `head.targets` says.

    Args:
        head: tasks, kind of targets, Gaussian settings.
        grid: grid of the heat maps.
    """

    def __init__(self, head: CenterSettings, grid: BEVGrid) -> None:
        self.head, self.grid = head, grid
        order = class_order(head.tasks)
        task_of, slot_of = torch.full((max(order) + 1,), -1), torch.full((max(order) + 1,), -1)
        position = 0
        for task, members in enumerate(head.tasks):
            for slot in range(len(members)):
                task_of[order[position]], slot_of[order[position]] = task, slot
                position += 1
        self._task_of, self._slot_of = task_of, slot_of

    def __call__(self, boxes: Boxes, batch_size: int, *, compact: bool | None = None) -> list[TaskTargets]:
        """Targets per task; boxes of classes that no task has are ignored.

        Args:
            boxes: annotations of the batch.
            batch_size: number of frames.
            compact: whether to keep only the cells that count, see `TaskTargets`. None: on the CPU, where that costs
                nothing, and nowhere else.
        """
        if compact is None:
            compact = reads_are_free(boxes.labels.device)
        known = boxes.labels < len(self._task_of)
        task = self._task_of.to(boxes.labels.device)[boxes.labels.clamp(max=len(self._task_of) - 1)]
        task = torch.where(known, task, -1)
        slot = self._slot_of.to(boxes.labels.device)[boxes.labels.clamp(max=len(self._slot_of) - 1)]
        uv = self.grid.to_cells(boxes.boxes[:, :2].double())
        every = torch.arange(len(task), device=task.device)
        assign = self._gaussian if self.head.targets == "gaussian" else self._nine_nearest
        out = []
        for number, names in enumerate(self.head.tasks):
            usable = task == number
            index = usable.nonzero().squeeze(1) if compact else every
            place = torch.where(usable, slot, 0)[index]
            members = _Members(index, usable[index], uv[index], boxes.frame[index], place)
            found = assign(boxes, members, batch_size, len(names))
            out.append(found.compacted() if compact else found)
        return out

    def _nine_nearest(self, boxes: Boxes, members: _Members, batch_size: int, classes: int) -> TaskTargets:
        area = self.grid.H * self.grid.W
        owned = self._nine_positives(members)
        plane = torch.div(owned.cell, area, rounding_mode="floor") * classes + members.slot[owned.winner]
        heatmap = torch.zeros(batch_size * classes * area, device=plane.device)
        heatmap.scatter_reduce_(0, plane * area + owned.cell % area, owned.counts.float(), reduce="amax")
        return self._finish(heatmap.view(batch_size, classes, area), owned.counts.sum(), boxes, members, owned)

    def _nine_positives(self, members: _Members) -> _Owned:
        """The nine cells around every centre, each owned by the nearest box of the task, whichever brought it in."""
        ix, iy, distance = nine_nearest(members.uv, self.grid.W, self.grid.H)
        cell = (members.frame[:, None] * self.grid.H + iy) * self.grid.W + ix
        owned = _nearest_box_per_cell(cell, distance, members.usable[:, None].expand_as(cell))
        if len(cell):
            owned.winner = self._nearest_of_all(owned.cell, members)
        return owned

    def _nearest_of_all(self, cell: Tensor, members: _Members) -> Tensor:
        """For each cell (n,) the box of its frame that is nearest; the first one on ties."""
        ix, iy = cell % self.grid.W, torch.div(cell, self.grid.W, rounding_mode="floor")
        frame, iy = torch.div(iy, self.grid.H, rounding_mode="floor"), iy % self.grid.H
        corner = torch.stack([ix, iy], dim=1).double()
        distance = ((corner[:, None] - members.uv.double()) ** 2).sum(dim=2)  # (n, m)
        elsewhere = (frame[:, None] != members.frame) | ~members.usable
        return distance.masked_fill(elsewhere, torch.inf).argmin(dim=1)

    def _gaussian(self, boxes: Boxes, members: _Members, batch_size: int, classes: int) -> TaskTargets:
        grid, head = self.grid, self.head
        corner = torch.floor(members.uv).long()
        inside = ((corner >= 0) & (corner < corner.new_tensor([grid.W, grid.H]))).all(dim=1)
        members = replace(members, usable=members.usable & inside)
        size = boxes.boxes[members.index, 3:5].float() / grid.cell
        radius = gaussian_radius(size[:, 0], size[:, 1], head.min_overlap).long().clamp(min=head.min_radius)
        reach = reach_of(grid.cell, head.min_overlap, head.min_radius)
        plane = members.frame * classes + members.slot
        # What is not usable is drawn too far away to be seen.
        centre = torch.where(members.usable[:, None], corner, -2 * reach - 2)
        heatmap = draw_gaussians(centre, radius, plane, batch_size * classes, grid.H, grid.W, reach)
        cell = (members.frame * grid.H + corner[:, 1]) * grid.W + corner[:, 0]
        distance = ((members.uv - corner - 0.5) ** 2).sum(dim=1)
        owned = _nearest_box_per_cell(cell[:, None], distance[:, None], members.usable[:, None])
        peaks = owned.counts.sum()
        if head.regression_cells == 9:
            owned = self._nine_positives(members)
        return self._finish(heatmap.view(batch_size, classes, -1), peaks, boxes, members, owned)

    def _finish(self, heatmap: Tensor, peaks: Tensor, boxes: Boxes, members: _Members, owned: _Owned) -> TaskTargets:
        grid, box = self.grid, members.index[owned.winner]
        ix, iy = owned.cell % grid.W, torch.div(owned.cell, grid.W, rounding_mode="floor") % grid.H
        regression = encode(boxes.boxes[box].double(), members.uv[owned.winner], ix, iy).float()
        maps = heatmap.unflatten(2, (grid.H, grid.W))
        return TaskTargets(maps, peaks, owned.cell, owned.counts.float(), regression, box)
