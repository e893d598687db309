"""Metrics by distance of the objects, and by weather and light of the scenes (CRKD, Tables S1 and S2).

A group of distances is what the benchmark gives for the annotations and detections of one half-open interval, each by
its own distance from the vehicle in the ground plane, after the benchmark's filters. A group of scenes is what it gives
for these scenes alone: rainy where the description says "rain", in any case and also as part of another phrase, else
sunny; night where it says "night", else day. Weather and lighting are two partitions of the same frames.

As in the benchmark, a class without an annotation in a group has an average precision of 0 and errors of 1, which says
more of the group than of the detector; beside it stands the mean over the classes that the group has.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from bevkd.classes import CLASSES
from bevkd.errors import ConfigError, DataError, nearest
from bevkd.eval.nuscenes.config import DetectionConfig
from bevkd.eval.nuscenes.filtering import ego_distance
from bevkd.eval.nuscenes.ground_truth import GroundTruth
from bevkd.eval.nuscenes.matched import Mask, Matched, of_boxes, of_frames
from bevkd.eval.nuscenes.metrics import evaluate_matched

RANGE_BINS: tuple[float, ...] = (0.0, 20.0, 30.0, 50.0)
# Kind of scenes -> the word of a description, the group that it makes, and the group of all others.
_WORDS = {"weather": ("rain", "rainy", "sunny"), "lighting": ("night", "night", "day")}
KINDS: tuple[str, ...] = ("range", *_WORDS)


def check_kinds(kinds: Sequence[str]) -> tuple[str, ...]:
    """The kinds of groups, each once.

    Raises:
        ConfigError: one is unknown.
    """
    for kind in kinds:
        if kind not in KINDS:
            raise ConfigError(f"no groups are made by {kind!r}{nearest(kind, KINDS)}; known: {', '.join(KINDS)}")
    return tuple(dict.fromkeys(kinds))


def check_bins(bins: Sequence[float]) -> tuple[float, ...]:
    """Borders of the groups of distances (m).

    Raises:
        ConfigError: they are fewer than two, not rising, or no distances.
    """
    rising = all(a < b for a, b in pairwise(bins))
    if len(bins) < 2 or not all(math.isfinite(edge) and edge >= 0 for edge in bins) or not rising:
        raise ConfigError(
            f"bins of distances are two or more rising numbers of metres, as in 0,20,30,50, not {list(bins)}"
        )
    return tuple(map(float, bins))


def described_kinds(gt: GroundTruth) -> tuple[str, ...]:
    """The kinds of groups that annotations can be broken down by: by scene only where every scene is described."""
    return KINDS if gt.descriptions and None not in gt.descriptions else ("range",)


def break_down(
    gt: GroundTruth,
    matched: Matched,
    config: DetectionConfig,
    kinds: Sequence[str] = KINDS,
    bins: Sequence[float] = RANGE_BINS,
) -> dict[str, dict[str, Any]]:
    """Numbers of every group, called as published numbers are: `range:0-20`, `weather:rainy`, `lighting:night`.

    A group has the keys of the devkit's `metrics_summary.json` but for its settings, then `mean_ap_present` (None for a
    group without annotations), `frames` (all of the split by distance), `boxes` and `boxes_per_class`: annotations that
    count.

    Args:
        gt: all annotations.
        matched: the boxes that count.
        config: the settings that they were matched with.
        kinds: of groups, a part of `KINDS`.
        bins: borders of the groups of distances (m); what lies outside is in none of them.

    Raises:
        ConfigError: no such kind, or no such bins.
        DataError: a scene is not described.
    """
    out: dict[str, dict[str, Any]] = {}
    for kind in check_kinds(kinds):
        if kind == "range":
            for name, part in _by_distance(gt, matched, config, check_bins(bins)):
                out[f"{kind}:{name}"] = _numbers(part, config, len(gt.tokens))
        else:
            for name, keep in _by_scene(gt, kind):
                out[f"{kind}:{name}"] = _numbers(of_frames(matched, keep), config, int(keep.sum()))
    return out


def _by_distance(
    gt: GroundTruth, matched: Matched, config: DetectionConfig, bins: tuple[float, ...]
) -> Iterator[tuple[str, Matched]]:
    annotated, detected = ego_distance(matched.gt, gt), ego_distance(matched.pred, gt)
    for low, high in pairwise(bins):
        gt_inside, pred_inside = ((low <= distance) & (distance < high) for distance in (annotated, detected))
        yield f"{low:g}-{high:g}", of_boxes(matched, gt_inside, pred_inside, config)


def _by_scene(gt: GroundTruth, kind: str) -> Iterator[tuple[str, Mask]]:
    word, with_it, without = _WORDS[kind]
    if len(gt.descriptions) != len(gt.tokens):
        raise DataError(f"nothing is known of the scenes, so that there are no groups by {kind}", field="description")
    if None in gt.descriptions:
        token = gt.tokens[gt.descriptions.index(None)]
        message = f"the scene of a sample has no text that tells its {kind}"
        raise DataError(message, file=Path("scene.json"), token=token, field="description")
    said = np.array([word in (text or "").lower() for text in gt.descriptions], dtype=bool)
    yield with_it, said
    yield without, ~said


def _numbers(part: Matched, config: DetectionConfig, frames: int) -> dict[str, Any]:
    metrics = evaluate_matched(part, config)
    summary = metrics.summary()
    del summary["eval_time"], summary["cfg"]
    counts = np.bincount(part.gt.label, minlength=len(CLASSES))
    boxes = {name: int(counts[CLASSES.index(name)]) for name in config.class_range}
    present = [ap for name, ap in metrics.mean_dist_aps.items() if boxes[name]]
    return summary | {
        "mean_ap_present": float(np.mean(present)) if present else None,
        "frames": frames,
        "boxes": len(part.gt),
        "boxes_per_class": boxes,
    }
