"""From settings to a detector: its kind is looked up by name."""

from __future__ import annotations

from bevkd.config.schema import ModelConfig
from bevkd.models.base import Detector
from bevkd.registry import lookup

__all__ = ["Detector", "build_detector"]


def build_detector(model: ModelConfig) -> Detector:
    """A detector with fresh weights (image backbone as configured).

    Raises:
        ConfigError: unknown kind, or settings that it cannot be built from.
    """
    detector: Detector = lookup("detector", model.kind)(model)
    return detector
