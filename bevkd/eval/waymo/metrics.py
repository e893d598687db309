"""AP and APH per breakdown and level, from counts at 101 score cut-offs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from bevkd.eval.groups import Groups
from bevkd.eval.waymo.matching import Pairs, match
from bevkd.eval.waymo.overlap import LetConfig, iou, let
from bevkd.eval.waymo.sets import TYPES, Boxes, Floats, Ints, Sets
from bevkd.geometry import wrap_angle

CUTOFFS = np.array([i / 100 for i in range(101)], dtype=np.float32)
LEVELS = (1, 2)
IOU = {"VEHICLE": 0.7, "PEDESTRIAN": 0.5, "SIGN": 0.5, "CYCLIST": 0.5}
LET_IOU = {"VEHICLE": 0.5, "PEDESTRIAN": 0.3, "SIGN": 0.3, "CYCLIST": 0.3}
RANGES = {"[0, 30)": 30.0, "[30, 50)": 50.0, "[50, +inf)": np.inf}  # with where they end (m)
RECALL_STEP = 0.05  # gaps between recalls are filled to be no wider
_WEIGHT = 1_000_000  # weights are whole millionths, as in the benchmark
_CHUNK = 1 << 14  # predictions at a time: memory does not grow with the data set


@dataclass
class Counts:
    """Sums over frames per shard (S) and cut-off (T)."""

    shards: int
    matched: Floats = field(init=False)  # true positives
    false: Floats = field(init=False)  # false positives
    missed: Floats = field(init=False)  # (levels, S, T) annotations up to a level without a match
    heading: Floats = field(init=False)  # summed heading accuracy of true positives
    affinity: Floats = field(init=False)  # summed longitudinal affinity of true positives

    def __post_init__(self) -> None:
        shape = (self.shards, len(CUTOFFS))
        self.matched, self.false, self.heading, self.affinity = (np.zeros(shape) for _ in range(4))
        self.missed = np.zeros((len(LEVELS), *shape))


def evaluate(sets: Sets, let_config: LetConfig | None = None) -> dict[str, dict[str, float]]:
    """`{<breakdown>_LEVEL_<n>: {"ap", "aph"}}`, with the names of the official op; with `let_config` also "apl".

    Args:
        sets: predictions and annotations.
        let_config: compute the longitudinal error tolerant metrics instead.
    """
    breakdowns = _breakdowns()
    counts = {name: Counts(len(shards)) for name, shards in breakdowns.items()}
    for found, truth in _chunks(sets):
        pairs, affinity = _pairs(found, truth, let_config)
        for name in breakdowns:
            _count(counts[name], found, truth, pairs, affinity, name)
    out = {}
    for name, shards in breakdowns.items():
        for s, shard in enumerate(shards):
            for k, level in enumerate(LEVELS):
                out[f"{shard}_LEVEL_{level}"] = _metrics(counts[name], s, k, let_config is not None)
    return out


def _breakdowns() -> dict[str, list[str]]:
    """Shards of each breakdown; the number of a shard is its place."""
    return {
        "OBJECT_TYPE": [f"OBJECT_TYPE_TYPE_{name}" for name in TYPES],
        "RANGE": [f"RANGE_TYPE_{name}_{limits}" for name in TYPES for limits in RANGES],
    }


def _shard(boxes: Boxes, breakdown: str) -> Ints:
    """Shard (N,) of each box, -1 for an unknown type."""
    kind = boxes.type - 1
    if breakdown == "OBJECT_TYPE":
        return kind
    distance = np.sqrt((boxes.box[:, :3] ** 2).sum(axis=1))
    band = np.searchsorted([*RANGES.values()][:-1], distance, side="right")
    return np.where(kind < 0, -1, len(RANGES) * kind + band)


def _chunks(sets: Sets) -> Iterator[tuple[Boxes, Boxes]]:
    """Whole frames, some thousand predictions at a time."""
    predictions, annotations = sets.predictions, sets.annotations
    frames = np.union1d(predictions.frame, annotations.frame)
    ends = np.searchsorted(predictions.frame, frames, side="right")
    first = 0
    while first < len(frames):
        begin = 0 if first == 0 else ends[first - 1]
        last = max(first + 1, int(np.searchsorted(ends, begin + _CHUNK, side="right")))
        parts = []
        for boxes in (predictions, annotations):
            low = np.searchsorted(boxes.frame, frames[first], side="left")
            parts.append(boxes.select(slice(low, np.searchsorted(boxes.frame, frames[last - 1], side="right"))))
        yield parts[0], parts[1]
        first = last


def _pairs(predictions: Boxes, annotations: Boxes, let_config: LetConfig | None) -> tuple[Pairs, Floats]:
    """Pairs of one frame and type that may match, and their longitudinal affinity."""
    _, frame = np.unique(np.concatenate([predictions.frame, annotations.frame]), return_inverse=True)
    group = frame * (len(TYPES) + 1) + np.concatenate([predictions.type, annotations.type])
    split, groups = len(predictions), int(group.max(initial=-1)) + 1
    p, g = Groups(group[split:], groups).pairs(group[:split])
    known = predictions.type[p] > 0
    if let_config is None:  # in LET a prediction far away along the line of sight may match, too
        reach = [np.linalg.norm(boxes.box[:, 3:5], axis=1) / 2 for boxes in (predictions, annotations)]
        apart = np.linalg.norm(predictions.box[p, :2] - annotations.box[g, :2], axis=1)
        known &= apart <= reach[0][p] + reach[1][g]
    p, g = p[known], g[known]
    affinity = np.ones(len(p))
    if let_config is None:
        overlap = iou(predictions.box[p], annotations.box[g])
    else:
        overlap, affinity = let(predictions.box[p], annotations.box[g], let_config)
    least = IOU if let_config is None else LET_IOU
    limit = np.array([np.inf, *least.values()], dtype=np.float32)[predictions.type[p]]
    weight = np.rint(overlap * affinity * _WEIGHT).astype(np.int64)
    keep = (overlap >= limit) & (affinity > 0) & (weight > 0)
    return Pairs(p[keep], g[keep], weight[keep]), affinity[keep]


def _count(
    counts: Counts, predictions: Boxes, annotations: Boxes, pairs: Pairs, affinity: Floats, breakdown: str
) -> None:
    """Add the counts of some frames."""
    of_prediction, of_annotation = _shard(predictions, breakdown), _shard(annotations, breakdown)
    same = np.flatnonzero(of_prediction[pairs.prediction] == of_annotation[pairs.annotation])
    pairs, affinity = pairs.select(same), affinity[same]
    active = (predictions.score[None] >= CUTOFFS[:, None]) & (of_prediction >= 0)[None]
    pair_of = match(pairs, active, len(annotations))  # (T, annotations)
    t, g = np.nonzero(pair_of >= 0)
    pair = pair_of[t, g]
    taken = np.zeros_like(active)
    taken[t, pairs.prediction[pair]] = True
    accuracy = _heading_accuracy(predictions.box[pairs.prediction, 6], annotations.box[pairs.annotation, 6])
    cell = of_annotation[g] * len(CUTOFFS) + t
    for total, weights in ((counts.matched, None), (counts.heading, accuracy), (counts.affinity, affinity)):
        summed = np.bincount(cell, None if weights is None else weights[pair], total.size)
        total += summed.reshape(total.shape)
    wrong = active & ~taken & ~predictions.nlz[None]
    _add(counts.false, wrong, of_prediction)
    for k, level in enumerate(LEVELS):
        missed = (pair_of < 0) & ((annotations.level <= level) & (of_annotation >= 0))[None]
        _add(counts.missed[k], missed, of_annotation)


def _add(total: Floats, mask: NDArray[np.bool_], shard: Ints) -> None:
    """Count the marked members (T, N) of each shard."""
    t, i = np.nonzero(mask)
    total += np.bincount(shard[i] * len(CUTOFFS) + t, minlength=total.size).reshape(total.shape)


def _heading_accuracy(a: Floats, b: Floats) -> Floats:
    """1 for equal headings, 0 for opposite ones."""
    return np.clip(1 - np.abs(wrap_angle(a - b)) / np.pi, 0, 1)


def _metrics(counts: Counts, shard: int, level: int, tolerant: bool) -> dict[str, float]:
    matched = counts.matched[shard]
    claimed, present = matched + counts.false[shard], matched + counts.missed[level, shard]
    recall = np.divide(matched, present, out=np.zeros_like(matched), where=present > 0)
    sums = {"ap": matched, "aph": counts.heading[shard]}
    if tolerant:
        sums["apl"] = counts.affinity[shard]
    out = {}
    for name, total in sums.items():
        precision = np.divide(total, claimed, out=np.zeros_like(total), where=claimed > 0)
        out[name] = average_precision(np.where(recall == 0, 1.0, precision), recall)
    return out


def average_precision(precision: Floats, recall: Floats) -> float:
    """Area under the curve of (T,) precisions over recalls, trapezoids between the largest precisions to the right.

    Equal recalls (in single precision) keep the largest precision; gaps wider than `RECALL_STEP` are filled from above
    with the precision at their right end; the curve starts at recall 0 with the precision that follows.
    """
    best: dict[float, float] = {0.0: 1.0}
    for r, p in zip(recall.astype(np.float32).tolist(), precision.tolist(), strict=True):
        best[r] = max(best.get(r, 0.0), p)
    curve: list[tuple[float, float]] = []
    last, top = 0.0, 0.0
    for r in sorted(best, reverse=True):
        while last - r > RECALL_STEP + 1e-6:
            last -= RECALL_STEP
            curve.append((last, top))
        top = max(top, best[r])
        curve.append((r, top))
        last = r
    if len(curve) >= 2:
        curve[-1] = (curve[-1][0], curve[-2][1])
    area = 0.0
    for (right, high), (left, low) in pairwise(curve):
        area += (right - left) * (high + low) / 2
    return area
