"""BEV encoders: from F_low to the map that the head reads, by name."""

from __future__ import annotations

from torch import Tensor

from bevkd.config.schema import ModelConfig
from bevkd.models.stage import Stage


class BEVEncoder(Stage):
    """Base class. A subclass takes its settings from `ModelConfig` and is registered as `bev_encoder`; its `features`
    name the maps inside of it, `B0`..`Bn`, and `high`.

    Args:
        config: model.
        in_channels: of F_low.
    """

    def __init__(self, config: ModelConfig, in_channels: int) -> None:
        super().__init__()

    def forward(self, low: Tensor) -> dict[str, Tensor]:
        """F_low (B, C, H, W) to the maps of `features`."""
        raise NotImplementedError
