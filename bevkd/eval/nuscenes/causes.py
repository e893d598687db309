"""What is likely wrong with a submission: boxes in another frame, or in another convention."""

from __future__ import annotations

import numpy as np

from bevkd.classes import CLASSES
from bevkd.eval.causes import nearest_pairs, of_headings, of_sizes
from bevkd.eval.nuscenes.boxes import Boxes
from bevkd.eval.nuscenes.config import DetectionConfig
from bevkd.eval.nuscenes.constants import HALF_TURN_CLASSES, UNDEFINED_ERRORS
from bevkd.eval.nuscenes.filtering import filter_boxes
from bevkd.eval.nuscenes.ground_truth import GroundTruth
from bevkd.eval.nuscenes.metrics import DetectionMetrics

# Errors from which on causes are looked for: exchanged sides give about 0.7, a quarter turn 1.57 rad.
_SCALE, _TURN = 0.35, 0.9
_NO_HEADING = [
    *(CLASSES.index(name) for name, undefined in UNDEFINED_ERRORS.items() if "orient_err" in undefined),
    *(CLASSES.index(name) for name in HALF_TURN_CLASSES),
]


def oddities(gt: GroundTruth, pred: Boxes, config: DetectionConfig, metrics: DetectionMetrics) -> list[str]:
    """Sentences on what is likely wrong; none where nothing is."""
    errors = metrics.tp_errors
    if not len(pred) or (errors["scale_err"] < _SCALE and errors["orient_err"] < _TURN):
        return []
    true, found = (filter_boxes(boxes, gt, config) for boxes in (gt.boxes, pred))
    if not len(found):
        return [
            f"none of the {len(pred)} detections lies within the class ranges around its vehicle: translations must be"
            " in the global frame",
        ]
    i, j = nearest_pairs(_place(found), found.score, _place(true))
    found, true = found.take(i), true.take(j)
    heads = ~np.isin(true.label, _NO_HEADING)
    others = {}
    if len(found) and not _upright(found.rotation):
        others["to come of quaternions in the order x, y, z, w"] = _yaw(found.rotation[:, [3, 0, 1, 2]])[heads]
    return [
        *of_sizes(found.size, true.size, ("width", "length", "height")),
        *of_headings(_yaw(found.rotation)[heads], _yaw(true.rotation)[heads], others),
    ]


def _place(boxes: Boxes) -> tuple[np.ndarray, np.ndarray]:
    return boxes.frame * len(CLASSES) + boxes.label, boxes.translation[:, :2]


def _upright(rotation: np.ndarray) -> bool:
    """Whether most boxes stand on the ground, as all real ones do."""
    tilt = (rotation[:, 1:3] ** 2).sum(axis=1) / np.maximum((rotation**2).sum(axis=1), 1e-12)
    return float(tilt.mean()) < 0.05


def _yaw(rotation: np.ndarray) -> np.ndarray:
    """Headings (N,) of quaternions w, x, y, z (N, 4), which need not be of unit length."""
    w, x, y, z = rotation.T
    return np.asarray(np.arctan2(2 * (w * z + x * y), w**2 + x**2 - y**2 - z**2))
