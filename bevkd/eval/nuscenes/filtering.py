"""Which boxes count: near enough to the vehicle, seen by a sensor, and not a two-wheeler in a bicycle rack."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bevkd.classes import CLASS_INDEX, CLASSES
from bevkd.eval.nuscenes.boxes import Boxes
from bevkd.eval.nuscenes.config import DetectionConfig
from bevkd.eval.nuscenes.constants import RACKED_CLASSES
from bevkd.eval.nuscenes.ground_truth import GroundTruth
from bevkd.eval.nuscenes.groups import Groups
from bevkd.geometry.transforms import rotation_from_quaternion


def filter_boxes(boxes: Boxes, gt: GroundTruth, config: DetectionConfig) -> Boxes:
    """The boxes that count, in their order; annotations without a point inside do not."""
    offset = boxes.translation[:, :2] - gt.ego_translation[boxes.frame, :2]
    distance = np.sqrt(np.square(offset[:, 0]) + np.square(offset[:, 1]))
    reach = np.array([config.class_range[name] for name in CLASSES], dtype=np.float64)
    keep = (distance < reach[boxes.label]) & (boxes.num_points != 0)
    two_wheelers = np.flatnonzero(keep & np.isin(boxes.label, [CLASS_INDEX[name] for name in RACKED_CLASSES]))
    keep[two_wheelers[_in_racks(boxes.take(two_wheelers), gt)]] = False
    return boxes.take(keep)


def _in_racks(boxes: Boxes, gt: GroundTruth) -> NDArray[np.bool_]:
    """(N,) whether the centre of a box lies in a rack of its frame, faces included."""
    racks, inside = gt.racks, np.zeros(len(boxes), dtype=bool)
    box, rack = Groups(racks.frame, len(gt.tokens)).pairs(boxes.frame)
    if not len(box):
        return inside
    rotation = rotation_from_quaternion(racks.rotation)
    # A corner and the three edges from it span the rack: inside is where the projection on each edge is within it.
    half = racks.size[:, [1, 0, 2]] / 2
    signs = np.array([[1.0, 1.0, 1.0], [-1.0, 1.0, 1.0], [1.0, -1.0, 1.0], [1.0, 1.0, -1.0]])
    corners = np.einsum("nij,nkj->nki", rotation, half[:, None] * signs) + racks.translation[:, None]
    edges = corners[:, 1:] - corners[:, :1]
    along = np.einsum("nki,ni->nk", edges[rack], boxes.translation[box] - corners[rack, 0])
    within = (along >= 0) & (along <= np.einsum("nki,nki->nk", edges, edges)[rack])
    inside[box[within.all(axis=1)]] = True
    return inside
