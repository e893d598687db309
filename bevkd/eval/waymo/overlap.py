"""How well a prediction fits an annotation: 3D IoU, and LET-3D's longitudinal affinity and aligned IoU."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from bevkd.config.bounds import Place, Share, Spread
from bevkd.eval.waymo.sets import Floats
from bevkd.models.ops.rotated import iou_3d

_TINY, _HUGE = 1e-2, 1e6  # boxes with a side beyond these overlap nothing
_EPSILON = 1e-6


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class LetConfig:
    """Settings of the longitudinal error tolerant metrics (LET-3D-AP), as in the camera-only challenge.

    Attributes:
        sensor: where lines of sight begin, in the vehicle frame (m).
        tolerance: accepted error along the line of sight, as part of the distance of the annotation.
        least: accepted error at close range (m).
    """

    sensor: tuple[Place, Place, Place] = (1.43, 0.0, 2.184)
    tolerance: Share = 0.1
    least: Spread = 0.5


def iou(predictions: Floats, annotations: Floats) -> NDArray[np.float32]:
    """3D IoU (P,) of paired boxes (P, 7), in single precision as the benchmark keeps it."""
    sizes = np.concatenate([predictions[:, 3:6], annotations[:, 3:6]], axis=1)
    out = iou_3d(torch.from_numpy(predictions), torch.from_numpy(annotations)).clamp(0, 1).numpy()
    sane = (sizes > _TINY).all(axis=1) & (sizes < _HUGE).all(axis=1)
    return np.where(sane, out, 0.0).astype(np.float32)


def let(predictions: Floats, annotations: Floats, config: LetConfig) -> tuple[NDArray[np.float32], Floats]:
    """IoU after moving each prediction along its line of sight nearest to its annotation, and the affinity.

    The affinity falls from 1 to 0 as the error along the line of sight of the annotation grows to the tolerance
    (Hung et al., "LET-3D-AP", 2022).
    """
    p, g = predictions.copy(), annotations.copy()
    for boxes in (p, g):
        boxes[:, :3] -= config.sensor
    dot = (p[:, :3] * g[:, :3]).sum(axis=1)
    distance = np.maximum(np.linalg.norm(g[:, :3], axis=1), _EPSILON)
    error = np.abs(dot / distance - distance) / np.maximum(config.tolerance * distance, config.least)
    p[:, :3] *= (dot / np.maximum((p[:, :3] ** 2).sum(axis=1), _EPSILON))[:, None]
    return iou(p, g), np.clip(1 - error, 0, 1)
