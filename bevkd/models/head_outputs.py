"""What heads say: every head has an output type of its own, from which boxes come, and dense maps if it has any."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from bevkd.data.batch import Boxes
from bevkd.errors import FeatureError

# Regression branches of a CenterPoint head in the fixed order of UniDistill's response features, with widths.
REGRESSION: tuple[tuple[str, int], ...] = (("reg", 2), ("height", 1), ("dim", 3), ("rot", 2), ("vel", 2), ("iou", 1))


@dataclass
class TaskOutput:
    """Raw maps of one head task.

    Attributes:
        heatmap: (B, K, H, W) logits, one map per class of the task.
        regression: branch name -> (B, k, H, W): `reg` offset to the cell corner (cells), `height` z (m), `dim` log
            (l, w, h), `rot` (sin, cos), `vel` (m/s), `iou` (in [-1, 1] when trained), see `REGRESSION`.
        merged: one map (B, 10 or 11, H, W) of which the branches of `regression` are slices, if the head computes them
            at once.
    """

    heatmap: Tensor
    regression: dict[str, Tensor]
    merged: Tensor | None = None

    @property
    def joined(self) -> Tensor:
        """The branches in the order of `REGRESSION`, (B, 10 or 11, H, W). Who reads several of them reads this: where
        it is `merged`, all readers' gradients are added up in one map.

        Raises:
            FeatureError: there is no branch.
        """
        if self.merged is not None:
            return self.merged
        if not self.regression:
            raise FeatureError("this head has no dense regression maps")
        return torch.cat([self.regression[name] for name, _ in REGRESSION if name in self.regression], dim=1)

    def with_velocity(self, factor: Tensor) -> TaskOutput:
        """With `vel` multiplied by a factor per frame (B,)."""
        if self.merged is None:
            vel = self.regression["vel"] * factor.to(self.heatmap.dtype)[:, None, None, None]
            return TaskOutput(self.heatmap, self.regression | {"vel": vel})
        # Of the whole map, so that it stays one.
        columns = [
            factor[:, None].expand(-1, width) if name == "vel" else torch.ones_like(factor)[:, None].expand(-1, width)
            for name, width in REGRESSION
        ]
        factors = torch.cat(columns, dim=1)[:, : self.merged.shape[1], None, None]
        return TaskOutput.split(self.heatmap, self.merged * factors.to(self.merged.dtype))

    @classmethod
    def split(cls, heatmap: Tensor, merged: Tensor) -> TaskOutput:
        """From one map of all branches, with or without `iou`."""
        widths = dict(REGRESSION)
        if merged.shape[1] < sum(widths.values()):
            del widths["iou"]
        parts = torch.split(merged, list(widths.values()), dim=1)
        return cls(heatmap, dict(zip(widths, parts, strict=True)), merged)


class HeadOutput(ABC):
    """What any head says: at least where the boxes are. Losses of distillation that compare dense maps ask for them by
    `dense`.
    """

    @abstractmethod
    def boxes(self) -> Boxes:
        """Boxes with scores, flat, sorted by frame, within a frame by falling score."""

    def dense(self) -> DenseOutput:
        """Its dense maps.

        Raises:
            FeatureError: the head has none.
        """
        raise FeatureError(f"{type(self).__name__} has no dense maps")

    def features(self) -> dict[str, Any]:
        """Its named features, see `FeatureSpec`."""
        return {}


class DenseOutput(HeadOutput):
    """A head with a heat map per class, and perhaps regression maps.

    Attributes:
        tasks: one entry per group of classes that share regression maps.
        class_order: (K_total,) class indices (`bevkd.classes`) of the concatenated heat maps.
    """

    tasks: list[TaskOutput]
    class_order: tuple[int, ...]

    def dense(self) -> DenseOutput:
        """Itself."""
        return self

    def features(self) -> dict[str, Any]:
        """The tasks, as `heads`."""
        return {"heads": self.tasks}

    def heatmaps(self) -> Tensor:
        """All class maps (B, K, H, W), in the order of `class_order`."""
        maps = [task.heatmap for task in self.tasks]
        return maps[0] if len(maps) == 1 else torch.cat(maps, dim=1)

    def heatmap_logits(self) -> Tensor:
        """All class maps (B, K, H, W), reordered to `bevkd.classes.LABELS`."""
        stacked = self.heatmaps()
        order = sorted(range(len(self.class_order)), key=self.class_order.__getitem__)
        return stacked if order == list(range(len(order))) else stacked[:, order]

    def regression_maps(self) -> Tensor:
        """All regression maps (B, tasks * 10 or 11, H, W): per task `reg, height, dim, rot, vel[, iou]`.

        Raises:
            FeatureError: the head has none.
        """
        maps = [task.joined for task in self.tasks]
        return maps[0] if len(maps) == 1 else torch.cat(maps, dim=1)


@dataclass
class CenterOutput(DenseOutput):
    """Of CenterPoint's head: everything is in its maps.

    Attributes:
        decoder: from this output to boxes, as the head is set up; None where nobody will ask.
    """

    tasks: list[TaskOutput]
    class_order: tuple[int, ...]
    decoder: Callable[[CenterOutput], Boxes] | None = None

    def boxes(self) -> Boxes:
        """The peaks of the heat maps with what the regression maps say there."""
        assert self.decoder is not None
        return self.decoder(self)


@dataclass
class QueryOutput(DenseOutput):
    """Of a transformer head: P object queries per frame, and the heat maps (without regression) that started them.

    Attributes:
        logits: (B, P, K) class logits, classes in the order of `class_order`.
        code: (B, P, 10) centre (cells of the grid), z, log l, log w, log h, sin, cos, vx, vy.
        label: (B, P) the class (index into `class_order`) that a query was started for.
        score: (B, P, K) heat of every class at the cell that a query was started from.
        tasks, class_order: see `DenseOutput`.
        decoder: see `CenterOutput`.
    """

    logits: Tensor
    code: Tensor
    label: Tensor
    score: Tensor
    tasks: list[TaskOutput] = field(default_factory=list)
    class_order: tuple[int, ...] = ()
    decoder: Callable[[QueryOutput], Boxes] | None = None

    def boxes(self) -> Boxes:
        """A box per query."""
        assert self.decoder is not None
        return self.decoder(self)

    def features(self) -> dict[str, Any]:
        """The heat maps, as `heads`, and itself, as `queries`."""
        return {"heads": self.tasks, "queries": self}
