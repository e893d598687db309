"""Which boxes count: near enough to the vehicle, seen by a sensor, and not a two-wheeler in a bicycle rack."""

from __future__ import annotations

import numpy as np

from bevkd.classes import CLASS_INDEX, CLASSES
from bevkd.eval.nuscenes.boxes import Boxes, Floats
from bevkd.eval.nuscenes.config import DetectionConfig
from bevkd.eval.nuscenes.constants import RACKED_CLASSES
from bevkd.eval.nuscenes.ground_truth import GroundTruth
from bevkd.eval.nuscenes.racks import in_racks


def ego_distance(boxes: Boxes, gt: GroundTruth) -> Floats:
    """(N,) distance (m) of each box's centre from the vehicle in the ground plane of the global frame."""
    offset = boxes.translation[:, :2] - gt.ego_translation[boxes.frame, :2]
    return np.sqrt(np.square(offset[:, 0]) + np.square(offset[:, 1]))


def filter_boxes(boxes: Boxes, gt: GroundTruth, config: DetectionConfig) -> Boxes:
    """The boxes that count, in their order; annotations without a point inside do not."""
    reach = np.array([config.class_range[name] for name in CLASSES], dtype=np.float64)
    keep = (ego_distance(boxes, gt) < reach[boxes.label]) & (boxes.num_points != 0)
    two_wheelers = np.flatnonzero(keep & np.isin(boxes.label, [CLASS_INDEX[name] for name in RACKED_CLASSES]))
    keep[two_wheelers[in_racks(boxes.take(two_wheelers), gt.racks, len(gt.tokens))]] = False
    return boxes.take(keep)
