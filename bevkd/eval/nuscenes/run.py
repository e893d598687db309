"""From files to a file: the nuScenes evaluation as one call."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from pathlib import Path

from bevkd.eval.nuscenes.causes import oddities
from bevkd.eval.nuscenes.config import DetectionConfig
from bevkd.eval.nuscenes.ground_truth import load_ground_truth
from bevkd.eval.nuscenes.metrics import DetectionMetrics, evaluate
from bevkd.eval.nuscenes.predictions import load_predictions
from bevkd.eval.summary import with_frames
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
) -> DetectionMetrics:
    """Evaluate the submission `results` on `split` and write the summary to `out`.

    `out` has the keys of the devkit's `metrics_summary.json`, `meta` included, then `frames`, their number, and where
    boxes look to be in another convention `warnings`; errors that a class does not have are null. It is written whole
    or not at all.
    `details` is where the curves go (precision, confidence and errors over recall), with the keys of the devkit's
    `metrics_details.json`.

    Own category names may count as classes: `categories`.

    Raises:
        ConfigError: no such split.
        DataError: tables or submission are missing or bad.
    """
    config = config or DetectionConfig.cvpr_2019()
    gt = load_ground_truth(root, version, split, categories)
    pred = load_predictions(results, gt, config.max_boxes_per_sample)
    metrics = evaluate(gt, pred, config)
    metrics = dataclasses.replace(metrics, warnings=tuple(oddities(gt, pred.boxes, config, metrics)))
    summary = metrics.summary() | {"meta": pred.meta}
    write_json(out, with_frames(summary, metrics.frames, metrics.warnings), indent=2)
    if details is not None:
        write_json(details, metrics.details())
    logger.info("%s %s: mAP %.4f, NDS %.4f", version, split, metrics.mean_ap, metrics.nd_score)
    return metrics
