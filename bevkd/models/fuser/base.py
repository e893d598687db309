"""Fusers: maps of several sensors to one, by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn

from bevkd.config.schema import ModelConfig
from bevkd.models.features import FeatureInfo
from bevkd.models.stage import Stage


@dataclass
class Fused:
    """What a fuser makes.

    Attributes:
        low: F_low (B, C, H, W).
        maps: others that distillation may want, by name: gated sensor maps `gated.<sensor>`.
    """

    low: Tensor
    maps: dict[str, Tensor] = field(default_factory=dict)


class Fuser(Stage):
    """Base class. A subclass takes its settings from `ModelConfig` and is registered as `fuser`; its `features` name
    `low` and the other maps that it makes.

    Args:
        config: model.
        channels: of the maps to fuse, by name, in the order of the sensors.
    """

    def __init__(self, config: ModelConfig, channels: Mapping[str, int]) -> None:
        super().__init__()

    def forward(self, maps: Mapping[str, Tensor]) -> Fused:
        """Maps (B, C_i, H, W) by name, in the order of `channels`."""
        raise NotImplementedError


class SingleMap(Fuser):
    """Nothing to fuse: the map of the only sensor is F_low.

    Args:
        config: model.
        channels: of the one map.
        activation: the last thing to happen to it, if it is a module.
    """

    def __init__(self, config: ModelConfig, channels: Mapping[str, int], activation: nn.Module | None) -> None:
        super().__init__(config, channels)
        (width,) = channels.values()
        self.features = {"low": FeatureInfo(width, 1 / config.finer)}
        if activation is not None:
            self.activations = {"low": activation}

    def forward(self, maps: Mapping[str, Tensor]) -> Fused:
        """The map."""
        (only,) = maps.values()
        return Fused(only)
