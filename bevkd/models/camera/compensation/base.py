"""Compensation modules: features of a map gathered from around each cell, by name."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


class Compensation(nn.Module):
    """Base class. A subclass is registered as `compensation`, with settings beside it.

    Args:
        settings: of the kind.
        channels: of the map.

    Raises:
        ConfigError: settings that do not fit.
    """

    def __init__(self, settings: Any, channels: int) -> None:
        super().__init__()

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (M, C, h, w) of any size to maps of the same shape: images of cameras, or BEV maps."""
        raise NotImplementedError
