"""What stages of a detector are: modules that say which features they make; sensor encoders among them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from bevkd.config.schema import ModelConfig
from bevkd.data.batch import Batch
from bevkd.models.features import FeatureInfo


class Stage(nn.Module):
    """Base class of stages.

    Attributes:
        features: the features that it makes, by name.
        activations: name of a feature -> the module that is the last thing to happen to it, where there is one: what
            goes into it is the feature `<name>.pre`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.features: dict[str, FeatureInfo] = {}
        self.activations: dict[str, nn.Module] = {}


@dataclass
class SensorFeatures:
    """What a sensor encoder makes.

    Attributes:
        maps: BEV maps (B, C, H, W) by name.
        others: what distillation may want besides, by name: `cells`, `depth`, levels of the image backbone.
    """

    maps: dict[str, Tensor]
    others: dict[str, Any] = field(default_factory=dict)


class SensorEncoder(Stage):
    """Base class of sensor encoders: built from a `ModelConfig`. Its `features` name its maps, those that are fused
    first, and its other features. What it reads of a frame its settings say, by a method
    `reads(model, data) -> Reads`.

    Attributes:
        fused: which of its maps go into the fuser; by default the first.

    Raises on a batch that lacks the sensor: ValueError.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config

    @property
    def fused(self) -> tuple[str, ...]:
        """Names of the maps that go into the fuser."""
        return (next(iter(self.features)),)

    def forward(self, batch: Batch) -> SensorFeatures:
        """Encode the sensor's part of the batch."""
        raise NotImplementedError

    def loss_weights(self) -> dict[str, float]:
        """Weight of each of its own losses; none by default."""
        return {}

    def losses(self, features: dict[str, Any], batch: Batch) -> dict[str, Tensor]:
        """Its own unweighted losses, such as the supervision of depths.

        Args:
            features: of the whole detector.
            batch: the frames.
        """
        return {}
