"""From files to a file: the nuScenes evaluation as one call."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bevkd.eval.nuscenes.breakdown import KINDS, RANGE_BINS, break_down, check_bins, check_kinds, described_kinds
from bevkd.eval.nuscenes.causes import oddities
from bevkd.eval.nuscenes.config import DetectionConfig
from bevkd.eval.nuscenes.ground_truth import load_ground_truth
from bevkd.eval.nuscenes.metrics import DetectionMetrics, evaluate_counted, match_counted
from bevkd.eval.nuscenes.predictions import load_predictions
from bevkd.io import write_json

logger = logging.getLogger(__name__)


def evaluate_files(
    root: str | Path,
    version: str,
    split: str,
    results: str | Path,
    out: str | Path,
    config: DetectionConfig | None = None,
    details: str | Path | None = None,
    categories: Mapping[str, str | None] | None = None,
    by: Sequence[str] = (),
    range_bins: Sequence[float] = RANGE_BINS,
) -> DetectionMetrics:
    """Evaluate the submission `results` on `split` and write the summary to `out`.

    `out` has the keys of the devkit's `metrics_summary.json`, `meta` included, then `frames`, their number, and where
    boxes look to be in another convention `warnings`; errors that a class does not have are null. It is written whole
    or not at all.
    `details` is where the curves go (precision, confidence and errors over recall), with the keys of the devkit's
    `metrics_details.json`.

    Own category names may count as classes: `categories`. `by` are kinds of groups to break the numbers down by, at
    borders `range_bins` (m) of distances: `out` then has `breakdowns`, see `break_down`.

    Raises:
        ConfigError: no such split, kind of groups or bins.
        DataError: tables or submission are missing or bad.
    """
    by, range_bins = check_kinds(by), check_bins(range_bins)
    config = config or DetectionConfig.cvpr_2019()
    gt = load_ground_truth(root, version, split, categories)
    pred = load_predictions(results, gt, config.max_boxes_per_sample)
    metrics, matched = evaluate_counted(gt, pred, config)
    metrics = dataclasses.replace(
        metrics,
        warnings=tuple(oddities(gt, pred.boxes, config, metrics)),
        breakdowns=break_down(gt, matched, config, by, range_bins),
    )
    write_json(out, metrics.completed(metrics.summary() | {"meta": pred.meta}), indent=2)
    if details is not None:
        write_json(details, metrics.details())
    logger.info("%s %s: mAP %.4f, NDS %.4f", version, split, metrics.mean_ap, metrics.nd_score)
    return metrics


def break_down_files(
    root: str | Path,
    version: str,
    split: str,
    results: str | Path,
    out: str | Path,
    config: DetectionConfig | None = None,
    categories: Mapping[str, str | None] | None = None,
    range_bins: Sequence[float] = RANGE_BINS,
) -> dict[str, dict[str, Any]]:
    """Write the groups of `break_down` alone, by all kinds that the annotations allow, to `out`; arguments as above.

    Raises:
        ConfigError: no such split or bins.
        DataError: tables or submission are missing or bad.
    """
    check_bins(range_bins)
    config = config or DetectionConfig.cvpr_2019()
    gt = load_ground_truth(root, version, split, categories)
    pred = load_predictions(results, gt, config.max_boxes_per_sample)
    kinds = described_kinds(gt)
    if kinds != KINDS:
        logger.warning("%s %s: scenes without a description, so that groups are by %s alone", version, split, kinds[0])
    found = break_down(gt, match_counted(gt, pred, config), config, kinds, range_bins)
    write_json(out, found, indent=2)
    return found
