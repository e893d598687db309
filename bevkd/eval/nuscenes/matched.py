"""Which detections match which annotations, at every threshold; and the same for a part of them.

A part is either all boxes of some frames or some boxes of every frame. Boxes match within a frame only, so that for the
former the matches stay what they are. For the latter they do not: where an annotation is left out, its detection may
take another one. The pairs that are near enough are then the same, and matching begins with these.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bevkd.classes import CLASS_INDEX
from bevkd.eval.nuscenes.boxes import Boxes, Floats, Ints
from bevkd.eval.nuscenes.config import DetectionConfig
from bevkd.eval.nuscenes.constants import HALF_TURN_CLASSES
from bevkd.eval.nuscenes.matching import Candidates, find_candidates, inverse, match, pair_errors, score_order

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Matches:
    """What matches at one threshold.

    Attributes:
        row: (P,) where in `errors` each detection stands, -1: it does not match.
        errors: error name -> (M,) values of the pairs.
    """

    row: Ints
    errors: Mapping[str, Floats]


@dataclass(frozen=True, slots=True)
class Matched:
    """Annotations and detections, all of which count, and which of them match.

    Attributes:
        gt: annotations.
        pred: detections.
        candidates: pairs up to the largest threshold.
        at: threshold (m) -> what matches.
    """

    gt: Boxes
    pred: Boxes
    candidates: Candidates
    at: Mapping[float, Matches]


def match_boxes(gt: Boxes, pred: Boxes, config: DetectionConfig) -> Matched:
    """Match detections to annotations, frame by frame and class by class."""
    return _matched(gt, pred, find_candidates(gt, pred, max(config.dist_ths)), config)


def of_frames(whole: Matched, keep: Mask) -> Matched:
    """The boxes of some frames.

    Args:
        whole: what has been matched.
        keep: (S,) frames that stay.
    """
    gt, pred = keep[whole.gt.frame], keep[whole.pred.frame]
    at = {threshold: Matches(found.row[pred], found.errors) for threshold, found in whole.at.items()}
    return Matched(whole.gt.take(gt), whole.pred.take(pred), _between(whole.candidates, gt, pred), at)


def of_boxes(whole: Matched, gt: Mask, pred: Mask, config: DetectionConfig) -> Matched:
    """Some annotations and some detections, matched anew.

    Args:
        whole: what has been matched.
        gt: annotations that stay.
        pred: detections that stay.
        config: the settings that `whole` was matched with.
    """
    return _matched(whole.gt.take(gt), whole.pred.take(pred), _between(whole.candidates, gt, pred), config)


def _matched(gt: Boxes, pred: Boxes, candidates: Candidates, config: DetectionConfig) -> Matched:
    rank = inverse(score_order(pred.score))
    half_turn_labels = [CLASS_INDEX[name] for name in HALF_TURN_CLASSES]
    at: dict[float, Matches] = {}
    for threshold in config.dist_ths:
        taken = match(candidates, threshold, rank, len(gt))
        matched = np.flatnonzero(taken >= 0)
        half_turn = np.isin(pred.label[matched], half_turn_labels)
        row = np.full(len(pred), -1)
        row[matched] = np.arange(len(matched))
        at[threshold] = Matches(row, pair_errors(gt, pred, taken[matched], matched, half_turn))
    return Matched(gt, pred, candidates, at)


def _between(candidates: Candidates, gt: Mask, pred: Mask) -> Candidates:
    """The pairs of which both stay, in their order, with the indices that these have among those that stay."""
    detection = np.repeat(np.arange(len(pred)), np.diff(candidates.start))
    stay = pred[detection] & gt[candidates.annotation]
    counts = np.bincount(detection[stay], minlength=len(pred))[pred]
    annotation = (np.cumsum(gt) - 1)[candidates.annotation[stay]]
    return Candidates(np.concatenate([[0], np.cumsum(counts)]), annotation, candidates.distance[stay])
