"""Greedy matching of detections to annotations, for all frames, classes and thresholds together.

The benchmark goes through the detections of a class by falling score; each takes the nearest annotation of its frame
that is still free, if it is near enough. Since every annotation "prefers" the detection with the higher score, that is
the one stable matching between detections (which rank annotations by distance) and annotations (which rank detections
by score), and proposals in rounds find it: every detection proposes to its nearest candidate, every annotation keeps
the best proposer, those sent away propose to their next. All proposals of a round are one array operation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bevkd.classes import CLASSES
from bevkd.eval.groups import Groups
from bevkd.eval.nuscenes.boxes import Boxes, Floats, Ints

FREE = np.iinfo(np.int64).max
CHUNK = 1 << 16  # detections per step of the pair search: keeps its arrays in the processor's cache


@dataclass(frozen=True, slots=True)
class Candidates:
    """Pairs of a detection and an annotation of the same frame and class, by detection, then distance, then annotation.

    Attributes:
        start: (P + 1,) the pairs of detection p are `start[p]:start[p + 1]`.
        annotation: (K,) index of the annotation.
        distance: (K,) distance of the centres in the ground plane (m).
    """

    start: Ints
    annotation: Ints
    distance: Floats


def score_order(score: Floats) -> Ints:
    """Indices by falling score; among equal scores the later one comes first, as in the benchmark."""
    return np.argsort(score, kind="stable")[::-1]


def inverse(order: Ints) -> Ints:
    """The permutation that undoes another one: from an order of things to the place of each."""
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    return place


def find_candidates(gt: Boxes, pred: Boxes, radius: float) -> Candidates:
    """All pairs closer than `radius` (m)."""
    n_frames = int(max(gt.frame.max(initial=-1), pred.frame.max(initial=-1))) + 1
    annotated = Groups(gt.frame * len(CLASSES) + gt.label, n_frames * len(CLASSES))
    group_pred = pred.frame * len(CLASSES) + pred.label
    (gt_x, gt_y), (pred_x, pred_y) = _plane(gt), _plane(pred)
    detections, annotations, distances = [], [], []
    for first in range(0, len(pred), CHUNK):
        p, g = annotated.pairs(group_pred[first : first + CHUNK])
        p += first
        near = np.flatnonzero(np.abs(pred_x[p] - gt_x[g]) < radius)
        p, g = p[near], g[near]
        offset = np.stack([pred_x[p] - gt_x[g], pred_y[p] - gt_y[g]], axis=1)
        distance = lengths(offset)
        close = np.flatnonzero(distance < radius)
        detections.append(p[close])
        annotations.append(g[close])
        distances.append(distance[close])
    p = np.concatenate([*detections, np.zeros(0, dtype=np.int64)])
    g = np.concatenate([*annotations, np.zeros(0, dtype=np.int64)])
    distance = np.concatenate([*distances, np.zeros(0)])
    order = np.lexsort((distance, p))  # stable, so equal distances stay ordered by annotation
    start = np.searchsorted(p, np.arange(len(pred) + 1))
    return Candidates(start, g[order], distance[order])


def lengths(vectors: Floats) -> Floats:
    """(N,) Euclidean lengths of (N, 2) vectors.

    As inner products, which round like `np.linalg.norm` of one vector does (the sum of squares does not): a detection
    at equal distance from two annotations, or right at a threshold, then matches as in the benchmark.
    """
    return np.sqrt(np.matmul(vectors[:, None, :], vectors[:, :, None])[:, 0, 0])


def _plane(boxes: Boxes) -> tuple[Floats, Floats]:
    """Columns x and y, each in a row of its own, which gathers faster."""
    return np.ascontiguousarray(boxes.translation[:, 0]), np.ascontiguousarray(boxes.translation[:, 1])


def match(candidates: Candidates, threshold: float, rank: Ints, n_gt: int) -> Ints:
    """(P,) annotation taken by each detection, -1 for none.

    Args:
        candidates: pairs at least up to `threshold`.
        threshold: only pairs closer than this (m) may match.
        rank: (P,) place of each detection in the order of scores.
        n_gt: number of annotations.
    """
    n = len(rank)
    within = np.concatenate([[0], np.cumsum(candidates.distance < threshold)])
    stop = candidates.start[:-1] + (within[candidates.start[1:]] - within[candidates.start[:-1]])
    turn = candidates.start[:-1].copy()  # the pair that each detection proposes next
    by_rank = inverse(rank)
    holder = np.full(n_gt, FREE)  # rank of the detection that each annotation holds
    asking = np.flatnonzero(turn < stop)
    while len(asking):
        asked = candidates.annotation[turn[asking]]
        before = holder[asked]
        np.minimum.at(holder, asked, rank[asking])
        after = holder[asked]
        displaced = np.unique(before[(before != after) & (before != FREE)])
        asking = np.concatenate([asking[after != rank[asking]], by_rank[displaced]])
        turn[asking] += 1
        asking = asking[turn[asking] < stop[asking]]
    taken = np.full(n, -1)
    held = np.flatnonzero(holder != FREE)
    taken[by_rank[holder[held]]] = held
    return taken


def pair_errors(gt: Boxes, pred: Boxes, g: Ints, p: Ints, half_turn: NDArray[np.bool_]) -> dict[str, Floats]:
    """The five errors of the M matched pairs (g, p); NaN where an error is unknown.

    Args:
        gt: annotations.
        pred: detections.
        g: (M,) indices of annotations.
        p: (M,) indices of detections.
        half_turn: (M,) pairs whose orientation counts only up to 180 degrees.
    """
    size_gt, size_pred = gt.size[g], pred.size[p]
    both = np.minimum(size_gt, size_pred)
    overlap = both[:, 0] * both[:, 1] * both[:, 2]
    volume_gt = size_gt[:, 0] * size_gt[:, 1] * size_gt[:, 2]
    volume_pred = size_pred[:, 0] * size_pred[:, 1] * size_pred[:, 2]
    period = np.where(half_turn, np.pi, 2 * np.pi)
    turn = np.mod(_yaw(gt.rotation[g]) - _yaw(pred.rotation[p]) + period / 2, period) - period / 2
    wanted = gt.attribute[g]
    return {
        "trans_err": lengths(pred.translation[p, :2] - gt.translation[g, :2]),
        "scale_err": 1 - overlap / (volume_gt + volume_pred - overlap),
        "orient_err": np.abs(turn),
        "vel_err": lengths(pred.velocity[p] - gt.velocity[g]),
        "attr_err": np.where(wanted < 0, np.nan, (wanted != pred.attribute[p]).astype(np.float64)),
    }


def _yaw(rotation: Floats) -> Floats:
    """Heading of quaternions (..., 4) that need not have unit length; 0 for the null quaternion."""
    w, x, y, z = np.moveaxis(rotation, -1, 0)
    return np.arctan2(2 * (x * y + w * z), w * w + x * x - y * y - z * z)
