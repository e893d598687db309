"""The feature contract: the one typed object that teachers and students share. Distillation reads nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

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
        """
        if self.merged is not None:
            return self.merged
        return torch.cat([self.regression[name] for name, _ in REGRESSION if name in self.regression], dim=1)

    @classmethod
    def split(cls, heatmap: Tensor, merged: Tensor) -> TaskOutput:
        """From one map of all branches, with or without `iou`."""
        widths = dict(REGRESSION)
        if merged.shape[1] < sum(widths.values()):
            del widths["iou"]
        parts = torch.split(merged, list(widths.values()), dim=1)
        return cls(heatmap, dict(zip(widths, parts, strict=True)), merged)


@dataclass
class QueryOutput:
    """What a transformer head says of P object queries per frame.

    Attributes:
        logits: (B, P, K) class logits, classes in the order of `BEVOutputs.class_order`.
        code: (B, P, 10) centre (cells of the grid), z, log l, log w, log h, sin, cos, vx, vy.
        label: (B, P) the class (index into `class_order`) that a query was started for.
        score: (B, P, K) heat of every class at the cell that a query was started from.
    """

    logits: Tensor
    code: Tensor
    label: Tensor
    score: Tensor


@dataclass
class SparseCells:
    """Features of occupied voxels or pillars: `features` (V, C), `coordinates` (V, 3 or 4) as (frame, [z,] y, x)."""

    features: Tensor
    coordinates: Tensor


@dataclass
class BEVOutputs:
    """What a detector returns.

    Attributes:
        sensors: per-sensor BEV maps (B, C, H, W): "lidar", "camera", "radar".
        low: fused low-level BEV map, UniDistill's F_low (B, C, H, W).
        stages: maps inside the BEV encoder, B0..Bn.
        high: pre-head BEV map, F_high (B, C, H, W).
        heads: one `TaskOutput` per head task; the class order over tasks is `class_order`.
        class_order: (K_total,) class indices (`bevkd.classes`) of the concatenated heat maps.
        queries: what a transformer head says of its queries; its `heads` hold the heat maps that started them.
        image: levels of the image backbone (B, N, C, h, w), fine to coarse.
        depth: (B, N, D, h, w) depth logits of the camera branch.
        cells: occupied voxels or pillars of the LiDAR branch.
    """

    low: Tensor
    high: Tensor
    heads: list[TaskOutput]
    class_order: tuple[int, ...]
    sensors: dict[str, Tensor] = field(default_factory=dict)
    stages: list[Tensor] = field(default_factory=list)
    queries: QueryOutput | None = None
    image: list[Tensor] = field(default_factory=list)
    depth: Tensor | None = None
    cells: SparseCells | None = None

    def feature(self, name: str) -> Any:
        """A feature by name."""
        return self.sensors.get(name, getattr(self, name, None))

    def heatmaps(self) -> Tensor:
        """All class maps (B, K, H, W), in the order of `class_order`."""
        maps = [task.heatmap for task in self.heads]
        return maps[0] if len(maps) == 1 else torch.cat(maps, dim=1)

    def heatmap_logits(self) -> Tensor:
        """All class maps (B, K, H, W), reordered to `bevkd.classes.LABELS`."""
        stacked = self.heatmaps()
        order = sorted(range(len(self.class_order)), key=self.class_order.__getitem__)
        return stacked if order == list(range(len(order))) else stacked[:, order]

    def regression_maps(self) -> Tensor:
        """All regression maps (B, tasks * 10 or 11, H, W): per task `reg, height, dim, rot, vel[, iou]`."""
        maps = [task.joined for task in self.heads]
        return maps[0] if len(maps) == 1 else torch.cat(maps, dim=1)


@dataclass(frozen=True)
class FeatureSpec:
    """Channel counts and modality of a network, for methods that build adapters."""

    low_channels: int
    high_channels: int
    classes: int
    regression_maps: int
    sensors: tuple[str, ...]
    image_channels: tuple[int, ...] = ()
    stages = ("low", "high", "heads")

    def channels(self, name: str) -> int:
        """Channels of a feature."""
        channels: int = getattr(self, f"{name}_channels")
        return channels

    def last_stage(self, names: Iterable[str]) -> str | None:
        """The stage to run to, so that all these features are computed; None for no feature."""
        stage = {"high": "high", "heads": "heads"}
        return max((stage.get(name, "low") for name in names), key=self.stages.index, default=None)
