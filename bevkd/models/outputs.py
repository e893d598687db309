"""The feature contract: the one typed object that teachers and students share. Distillation reads nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from bevkd.data.batch import Boxes
from bevkd.errors import FeatureError
from bevkd.models.features import FeatureInfo, FeatureSpec, numbered, unknown_feature
from bevkd.models.head_outputs import REGRESSION, CenterOutput, DenseOutput, HeadOutput, QueryOutput, TaskOutput

__all__ = [
    "REGRESSION",
    "BEVOutputs",
    "CenterOutput",
    "DenseOutput",
    "FeatureInfo",
    "FeatureSpec",
    "HeadOutput",
    "PointFeatures",
    "QueryOutput",
    "SparseCells",
    "TaskOutput",
]

SENSORS = ("lidar", "camera", "radar")


@dataclass
class SparseCells:
    """Features of occupied voxels or pillars: `features` (V, C), `coordinates` (V, 3 or 4) as (frame, [z,] y, x)."""

    features: Tensor
    coordinates: Tensor


@dataclass
class PointFeatures:
    """Features of points: `features` (P, C), `xyz` (P, 3) in the augmented ego frame (m), `frame` (P,) int64."""

    features: Tensor
    xyz: Tensor
    frame: Tensor


@dataclass
class BEVOutputs:
    """What a detector returns: its features by name, as far as it was run, and what its head says.

    Names, shapes and stages are those of the network's `FeatureSpec`. Features of today's detectors have a property
    each; all are reached by `feature`.

    Attributes:
        features: name -> tensor, `SparseCells` or `PointFeatures`; those of the head are in its output.
        head_output: what the head says; None where it was not run.
    """

    features: dict[str, Any]
    head_output: HeadOutput | None = None

    def feature(self, name: str) -> Any:
        """A feature by name.

        Raises:
            FeatureError: the network has none of this name, or was not run so far; the message has the nearest one.
        """
        if name in self.features:
            return self.features[name]
        known = self.features | (self.head_output.features() if self.head_output is not None else {})
        if name not in known:
            raise unknown_feature(name, known)
        return known[name]

    def _tensor(self, name: str) -> Tensor:
        tensor: Tensor = self.feature(name)
        return tensor

    @property
    def low(self) -> Tensor:
        """The fused low-level BEV map, UniDistill's F_low (B, C, H, W)."""
        return self._tensor("low")

    @property
    def high(self) -> Tensor:
        """The BEV map before the head, F_high (B, C, H, W)."""
        return self._tensor("high")

    @property
    def sensors(self) -> dict[str, Tensor]:
        """Per-sensor BEV maps (B, C, H, W), in the order in which they are fused."""
        return {name: value for name, value in self.features.items() if name in SENSORS}

    @property
    def stages(self) -> list[Tensor]:
        """Maps inside the BEV encoder, B0..Bn."""
        return [self.features[name] for name in numbered("B", self.features)]

    @property
    def image(self) -> list[Tensor]:
        """Levels of the image backbone (B, N, C, h, w), fine to coarse; empty without one."""
        return [self.features[name] for name in numbered("image", self.features)]

    @property
    def depth(self) -> Tensor | None:
        """Depth logits (B, N, D, h, w) of the camera branch."""
        return self.features.get("depth")

    @property
    def cells(self) -> SparseCells | None:
        """Occupied voxels or pillars."""
        return self.features.get("cells")

    @property
    def queries(self) -> QueryOutput | None:
        """What a transformer head says of its queries."""
        return self.head_output if isinstance(self.head_output, QueryOutput) else None

    @property
    def head(self) -> HeadOutput:
        """What the head says.

        Raises:
            FeatureError: it was not run.
        """
        if self.head_output is None:
            raise FeatureError("the head was not run")
        return self.head_output

    @property
    def heads(self) -> list[TaskOutput]:
        """Dense maps, one entry per head task; the class order over tasks is `class_order`."""
        return self.head.dense().tasks

    @property
    def class_order(self) -> tuple[int, ...]:
        """Class indices of the concatenated heat maps."""
        return self.head.dense().class_order

    def heatmaps(self) -> Tensor:
        """See `DenseOutput.heatmaps`."""
        return self.head.dense().heatmaps()

    def heatmap_logits(self) -> Tensor:
        """See `DenseOutput.heatmap_logits`."""
        return self.head.dense().heatmap_logits()

    def regression_maps(self) -> Tensor:
        """See `DenseOutput.regression_maps`."""
        return self.head.dense().regression_maps()

    def boxes(self) -> Boxes:
        """See `HeadOutput.boxes`."""
        return self.head.boxes()
