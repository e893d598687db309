"""What a dense head says: class scores everywhere, class maxima and regression at chosen cells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from bevkd.distill.tap import Cellset, CellTap, Tap, register_tap

if TYPE_CHECKING:
    from torch import Tensor

    from bevkd.data.batch import Target
    from bevkd.distill.masks import Cells
    from bevkd.distill.reading import Reading
    from bevkd.distill.sizes import Sizes
    from bevkd.models.outputs import BEVOutputs


def task_regression(outputs: BEVOutputs, tasks: int, index: Tensor, frame: Tensor) -> Tensor:
    """Regression values (n, R / tasks) at `(task * H + iy) * W + ix` (n,) of frames (n,)."""
    import torch

    from bevkd.distill.sampling import gather_cells

    maps = outputs.regression_maps()
    cells = maps.shape[-2] * maps.shape[-1]
    values = gather_cells(maps, index % cells, frame).unflatten(1, (tasks, -1))
    if tasks == 1:
        return values[:, 0]
    task = torch.div(index, cells, rounding_mode="floor")
    return values.gather(1, task[:, None, None].expand(-1, 1, values.shape[2]))[:, 0]


@register_tap("class scores")
@dataclass(frozen=True)
class ClassScores(Tap):
    """Scores (B, K, H, W) of all classes, in the order of `bevkd.classes.LABELS`."""

    feature: str = "heads"

    def read(self, reading: Reading) -> Target:
        """One row per frame."""
        return reading.per_frame(reading.outputs.heatmap_logits().float().sigmoid())

    def entry_bytes(self, sizes: Sizes) -> float:
        """Every number."""
        return 2 * sizes.classes * sizes.cells("heads")


@register_tap("response")
@dataclass(frozen=True)
class Response(CellTap):
    """The highest class logit, then all regression maps: (n, 1 + R) at the cells.

    The maximum over classes commutes with temperature, sigmoid and clip, so it is kept as a logit.
    """

    feature: str = "heads"

    def read(self, reading: Reading) -> Target:
        """One row per cell."""
        import torch

        from bevkd.distill.sampling import gather_cells

        cell, frame, _ = reading.cells(self.cells)
        logit = gather_cells(reading.outputs.heatmaps(), cell, frame).amax(1, keepdim=True)
        regression = gather_cells(reading.outputs.regression_maps(), cell, frame)
        return reading.rows(torch.cat([logit, regression], 1), frame)

    def entry_bytes(self, sizes: Sizes) -> float:
        """A vector per cell."""
        return 2 * self.cells.count(sizes) * (1 + sizes.regression_maps)


@register_tap("confident cells")
@dataclass(frozen=True)
class ConfidentCells(Cellset):
    """Cells `(task * H + iy) * W + ix` where the best score of a task's classes exceeds a threshold, weighted by it.

    With `per_task` off there is one task, of all classes.
    """

    feature: ClassVar[str] = "heads"
    needs_boxes: ClassVar[bool] = False
    threshold: float = 0.2
    per_task: bool = True

    def find(self, reading: Reading) -> Cells:
        """Cells sorted by frame."""
        import torch

        from bevkd.distill.masks import Cells

        best = self._best(reading.outputs).flatten(1)  # (B, tasks * H * W)
        frame, index = torch.nonzero(best > self.threshold, as_tuple=True)
        return Cells(index, frame, best[frame, index])

    def _best(self, outputs: BEVOutputs) -> Tensor:
        """Best scores (B, tasks, H, W)."""
        import torch

        if self.per_task:
            return torch.stack([torch.sigmoid(head.heatmap.float()).amax(1) for head in outputs.heads], 1)
        return torch.sigmoid(outputs.heatmap_logits().float()).amax(1, keepdim=True)

    def count(self, sizes: Sizes) -> float:
        """A few per object."""
        return sizes.boxes * sizes.confident_cells

    def tasks(self, outputs: BEVOutputs) -> int:
        """How many tasks there are."""
        return len(outputs.heads) if self.per_task else 1


@register_tap("task regression")
@dataclass(frozen=True)
class TaskRegression(Tap):
    """Regression (n, R / tasks) of the task of each confident cell."""

    feature: str = "heads"
    cells: ConfidentCells = ConfidentCells()

    def read(self, reading: Reading) -> Target:
        """One row per cell."""
        index, frame, _ = reading.cells(self.cells)
        values = task_regression(reading.outputs, self.cells.tasks(reading.outputs), index, frame)
        return reading.rows(values, frame)

    def entry_bytes(self, sizes: Sizes) -> float:
        """A vector per cell."""
        return 2 * self.cells.count(sizes) * sizes.regression_maps / (sizes.tasks if self.cells.per_task else 1)


@register_tap("class logits")
@dataclass(frozen=True)
class ClassLogits(Tap):
    """Logits (B, K, H, W) of all classes, in the order of `bevkd.classes.LABELS`."""

    feature: str = "heads"

    def read(self, reading: Reading) -> Target:
        """One row per frame."""
        return reading.per_frame(reading.outputs.heatmap_logits().float())

    def entry_bytes(self, sizes: Sizes) -> float:
        """Every number."""
        return 2 * sizes.classes * sizes.cells("heads")


@register_tap("highest logit")
@dataclass(frozen=True)
class HighestLogit(Tap):
    """The highest class logit of every cell (B, H, W). The maximum commutes with sigmoid and clip."""

    feature: str = "heads"

    def read(self, reading: Reading) -> Target:
        """One row per frame."""
        return reading.per_frame(reading.outputs.heatmaps().float().amax(1))

    def entry_bytes(self, sizes: Sizes) -> float:
        """A number per cell."""
        return 2 * sizes.cells("heads")


@register_tap("likely cells")
@dataclass(frozen=True)
class LikelyCells(ConfidentCells):
    """Cells `(task * H + iy) * W + ix` where the sum of a task's class scores exceeds a threshold, weighted by it.

    Where no cell of a frame does, the threshold is lowered by steps of 0.01 until one does, but not below `least`: so
    the cells are also those that a threshold which was lowered for a batch leaves of this frame.
    """

    threshold: float = 0.1
    least: float = 0.01

    def find(self, reading: Reading) -> Cells:
        """Cells sorted by frame."""
        import torch

        from bevkd.distill.heat import clipped_scores
        from bevkd.distill.masks import Cells
        from bevkd.distill.soft_response import lowered

        scores = [clipped_scores(head.heatmap).sum(1) for head in reading.outputs.heads]
        likely = torch.stack(scores, 1).flatten(2)  # (B, tasks, H * W)
        over = likely > lowered(likely.amax(2), self.threshold, self.least)[..., None]
        frame, index = torch.nonzero(over.flatten(1), as_tuple=True)
        return Cells(index, frame, likely.flatten(1)[frame, index])

    def count(self, sizes: Sizes) -> float:
        """A few per object, more than of confident ones."""
        return 2 * sizes.boxes * sizes.confident_cells


@register_tap("detected cells")
@dataclass(frozen=True)
class DetectedCells(Cellset):
    """Cells whose centre lies in a box that the network itself finds with more than some score, all of weight 1."""

    feature: ClassVar[str] = "heads"
    needs_boxes: ClassVar[bool] = False
    threshold: float = 0.1

    def find(self, reading: Reading) -> Cells:
        """Cells sorted by frame."""
        from bevkd.distill.masks import cells_of
        from bevkd.distill.regions import box_owners

        found = reading.outputs.boxes()
        found = found.select(found.scores > self.threshold)
        c = reading.context
        return cells_of(box_owners(found, c.grid, c.batch_size) < len(found))

    def count(self, sizes: Sizes) -> float:
        """A few per object, which is found more than once at such scores."""
        return 2 * sizes.boxes * sizes.box_cells
