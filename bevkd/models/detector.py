"""From settings to a detector: its kind is looked up by name."""

from __future__ import annotations

from dataclasses import replace

import torch

from bevkd.config.schema import ModelConfig
from bevkd.config.weights import image_backbone
from bevkd.models.backbone.settings import LATER
from bevkd.models.base import Detector
from bevkd.registry import lookup

__all__ = ["Detector", "build_detector", "outline", "weights_come_later"]


def build_detector(model: ModelConfig) -> Detector:
    """A detector with fresh weights (image backbone as configured).

    Raises:
        ConfigError: unknown kind, or settings that it cannot be built from.
    """
    detector: Detector = lookup("detector", model.kind)(model)
    return detector


def outline(model: ModelConfig) -> Detector:
    """A detector without any values, for shapes: it needs no memory, and no files. It lies on PyTorch's device `meta`.

    Raises:
        ConfigError: as `build_detector`.
    """
    with torch.device("meta"):
        return build_detector(weights_come_later(model)).eval()


def weights_come_later(model: ModelConfig) -> ModelConfig:
    """The same network, its image backbone built at random: it needs neither files nor the hub.

    For what loads all weights itself, or needs none.
    """
    if (backbone := image_backbone(model)) is None:
        return model
    return replace(model, camera=replace(model.camera, backbone=replace(backbone, weights=LATER)))
