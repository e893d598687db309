"""Curves over recall, average precision, true-positive errors and the nuScenes detection score."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bevkd.classes import CLASS_INDEX
from bevkd.errors import DataError
from bevkd.eval.nuscenes.boxes import Boxes, Floats, Ints
from bevkd.eval.nuscenes.config import DetectionConfig
from bevkd.eval.nuscenes.constants import N_RECALL, TP_METRICS, UNDEFINED_ERRORS
from bevkd.eval.nuscenes.filtering import filter_boxes
from bevkd.eval.nuscenes.ground_truth import GroundTruth
from bevkd.eval.nuscenes.matched import Matched, match_boxes
from bevkd.eval.nuscenes.matching import score_order
from bevkd.eval.nuscenes.predictions import Predictions
from bevkd.eval.summary import with_frames

RECALL = np.linspace(0, 1, N_RECALL)


@dataclass(frozen=True, slots=True)
class Curve:
    """What one class reaches at one distance threshold, at recall 0, 0.01, ..., 1.

    Attributes:
        precision: (101,) 0 beyond the reached recall.
        confidence: (101,) score at which the recall is reached, 0 beyond.
        errors: per error name (101,) mean error of the matches down to that score.
    """

    precision: Floats
    confidence: Floats
    errors: Mapping[str, Floats]

    @property
    def recall(self) -> Floats:
        """(101,) 0, 0.01, ..., 1."""
        return RECALL

    @property
    def max_recall_index(self) -> int:
        """Index of the highest recall reached."""
        reached = np.flatnonzero(self.confidence)
        return int(reached[-1]) if len(reached) else 0

    def to_dict(self) -> dict[str, list[float]]:
        """JSON form, with the keys of the devkit's `metrics_details.json`."""
        columns = {"recall": RECALL, "precision": self.precision, "confidence": self.confidence, **self.errors}
        return {name: values.tolist() for name, values in columns.items()}


NO_MATCH = Curve(np.zeros(N_RECALL), np.zeros(N_RECALL), dict.fromkeys(TP_METRICS, np.ones(N_RECALL)))


@dataclass(frozen=True)
class DetectionMetrics:
    """The result of one evaluation.

    Attributes:
        config: the settings used.
        curves: (class, threshold) -> curve.
        label_aps: class -> threshold -> average precision.
        label_tp_errors: class -> error name -> mean error; NaN where the class has no such error.
        eval_time: seconds spent in filtering, matching and averaging.
        frames: how many were evaluated; 0: not known.
        warnings: what is likely wrong with the submission, where its files were evaluated.
        breakdowns: numbers by group, see `bevkd.eval.nuscenes.breakdown`, where they were asked for.
    """

    config: DetectionConfig
    curves: Mapping[tuple[str, float], Curve]
    label_aps: Mapping[str, Mapping[float, float]]
    label_tp_errors: Mapping[str, Mapping[str, float]]
    eval_time: float
    frames: int = 0
    warnings: tuple[str, ...] = ()
    breakdowns: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def mean_dist_aps(self) -> dict[str, float]:
        """Average precision of each class, over thresholds."""
        return {name: float(np.mean(list(aps.values()))) for name, aps in self.label_aps.items()}

    @property
    def mean_ap(self) -> float:
        """mAP: over thresholds and classes."""
        return float(np.mean(list(self.mean_dist_aps.values())))

    @property
    def tp_errors(self) -> dict[str, float]:
        """Mean of each error over the classes that have it (mATE, mASE, mAOE, mAVE, mAAE)."""
        return {
            name: float(np.nanmean([errors[name] for errors in self.label_tp_errors.values()])) for name in TP_METRICS
        }

    @property
    def tp_scores(self) -> dict[str, float]:
        """1 - error, at least 0."""
        return {name: max(0.0, 1.0 - error) for name, error in self.tp_errors.items()}

    @property
    def nd_score(self) -> float:
        """NDS: weighted mean of mAP and the five scores."""
        scores = list(self.tp_scores.values())
        weight = self.config.mean_ap_weight
        return float(weight * self.mean_ap + np.sum(scores)) / float(weight + len(scores))

    def summary(self) -> dict[str, Any]:
        """The content of the devkit's `metrics_summary.json` (without `meta`), keys as JSON writes them."""
        return {
            "label_aps": {name: {str(th): ap for th, ap in aps.items()} for name, aps in self.label_aps.items()},
            "mean_dist_aps": self.mean_dist_aps,
            "mean_ap": self.mean_ap,
            "label_tp_errors": {name: dict(errors) for name, errors in self.label_tp_errors.items()},
            "tp_errors": self.tp_errors,
            "tp_scores": self.tp_scores,
            "nd_score": self.nd_score,
            "eval_time": self.eval_time,
            "cfg": self.config.to_dict(),
        }

    def content(self) -> dict[str, Any]:
        """`summary`, and what our metrics files say besides: `frames`, and where there are any `warnings` and
        `breakdowns`.
        """
        return self.completed(self.summary())

    def completed(self, summary: Mapping[str, Any]) -> dict[str, Any]:
        """A summary with what our metrics files say besides."""
        found = with_frames(summary, self.frames, self.warnings)
        return found | ({"breakdowns": dict(self.breakdowns)} if self.breakdowns else {})

    def details(self) -> dict[str, dict[str, list[float]]]:
        """The content of the devkit's `metrics_details.json`: every curve, keyed "class:threshold"."""
        return {f"{name}:{threshold}": curve.to_dict() for (name, threshold), curve in self.curves.items()}


def evaluate(gt: GroundTruth, pred: Predictions, config: DetectionConfig | None = None) -> DetectionMetrics:
    """Metrics of `pred` against `gt`, equal to those of the official devkit.

    Raises:
        DataError: scores below 0, for which the benchmark's curves are not defined.
    """
    config = config or DetectionConfig.cvpr_2019()
    return evaluate_counted(gt, pred, config)[0]


def evaluate_counted(gt: GroundTruth, pred: Predictions, config: DetectionConfig) -> tuple[DetectionMetrics, Matched]:
    """`evaluate`, and which of the boxes that count match."""
    begin = time.perf_counter()
    matched = match_counted(gt, pred, config)
    found = evaluate_matched(matched, config)
    return replace(found, frames=len(gt.tokens), eval_time=time.perf_counter() - begin), matched


def match_counted(gt: GroundTruth, pred: Predictions, config: DetectionConfig) -> Matched:
    """Match the boxes that count."""
    return match_boxes(filter_boxes(gt.boxes, gt, config), filter_boxes(pred.boxes, gt, config), config)


def evaluate_filtered(gt: Boxes, pred: Boxes, config: DetectionConfig) -> DetectionMetrics:
    """`evaluate` for boxes of which all count."""
    begin = time.perf_counter()
    found = evaluate_matched(match_boxes(gt, pred, config), config)
    return replace(found, eval_time=time.perf_counter() - begin)


def evaluate_matched(matched: Matched, config: DetectionConfig) -> DetectionMetrics:
    """`evaluate` for boxes that have been matched with the same settings."""
    begin = time.perf_counter()
    curves = _curves(matched, config)
    aps: dict[str, dict[float, float]] = {}
    errors: dict[str, dict[str, float]] = {}
    for name in config.class_range:
        aps[name] = {th: average_precision(curves[name, th], config) for th in config.dist_ths}
        undefined = UNDEFINED_ERRORS.get(name, ())
        curve = curves[name, config.dist_th_tp]
        errors[name] = {
            error: float("nan") if error in undefined else mean_error(curve, error, config) for error in TP_METRICS
        }
    return DetectionMetrics(config, curves, aps, errors, time.perf_counter() - begin)


def average_precision(curve: Curve, config: DetectionConfig) -> float:
    """Mean precision above the least precision, over recalls above the least recall, scaled to [0, 1]."""
    excess = curve.precision[_first_index(config) :] - config.min_precision
    return float(np.mean(np.maximum(excess, 0.0))) / (1.0 - config.min_precision)


def mean_error(curve: Curve, name: str, config: DetectionConfig) -> float:
    """Mean of an error over the recalls between the least and the reached one; 1 if the least is not reached."""
    first, last = _first_index(config), curve.max_recall_index
    return float(np.mean(curve.errors[name][first : last + 1])) if last >= first else 1.0


def _first_index(config: DetectionConfig) -> int:
    return round(100 * config.min_recall) + 1  # the bin of the least recall itself does not count


def _curves(matched: Matched, config: DetectionConfig) -> dict[tuple[str, float], Curve]:
    pred = matched.pred
    order = score_order(pred.score)
    order = order[np.argsort(pred.label[order].astype(np.int8), kind="stable")]  # by class, then by falling score
    score = pred.score[order]
    ends = np.cumsum(np.bincount(pred.label, minlength=len(CLASS_INDEX)))
    n_gt = np.bincount(matched.gt.label, minlength=len(CLASS_INDEX))
    curves: dict[tuple[str, float], Curve] = {}
    for threshold in config.dist_ths:
        errors = matched.at[threshold].errors
        row = matched.at[threshold].row[order]
        for name in config.class_range:
            label = CLASS_INDEX[name]
            mine = slice(ends[label - 1] if label else 0, ends[label])
            hit = row[mine] >= 0
            own_errors = {error: values[row[mine][hit]] for error, values in errors.items()}
            curves[name, threshold] = _curve(hit, score[mine], int(n_gt[label]), own_errors)
    return curves


def _curve(hit: NDArray[np.bool_], score: Floats, n_gt: int, errors: Mapping[str, Floats]) -> Curve:
    """The curve of one class at one threshold.

    Args:
        hit: (P,) whether each detection, by falling score, matched.
        score: (P,) falling.
        n_gt: number of annotations.
        errors: per error name (M,) values of the matches, by falling score.
    """
    if not hit.any():
        return NO_MATCH
    true_positives: Ints = np.cumsum(hit)
    precision = true_positives / np.arange(1, len(hit) + 1)
    recall = true_positives / float(n_gt)
    confidence = np.interp(RECALL, recall, score, right=0)
    if (np.diff(confidence) > 0).any():
        raise DataError("detection scores must not be negative", field="detection_score")
    # np.interp wants rising abscissae, scores fall.
    resampled = {
        name: np.interp(confidence[::-1], score[hit][::-1], _cumulative_mean(values)[::-1])[::-1]
        for name, values in errors.items()
    }
    return Curve(np.interp(RECALL, recall, precision, right=0), confidence, resampled)


def _cumulative_mean(values: Floats) -> Floats:
    """Mean of the values up to each place, unknown ones left out: 0 before the first known, all 1 if none is known."""
    known = ~np.isnan(values)
    if not known.any():
        return np.ones(len(values))
    count = np.cumsum(known)
    return np.divide(np.nancumsum(values), count, out=np.zeros(len(values)), where=count != 0)
