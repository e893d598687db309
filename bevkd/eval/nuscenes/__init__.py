"""nuScenes detection metrics, equal to the official devkit and much faster."""

from __future__ import annotations

from bevkd.eval.nuscenes.boxes import Boxes, make_boxes
from bevkd.eval.nuscenes.breakdown import KINDS, RANGE_BINS, break_down
from bevkd.eval.nuscenes.config import DetectionConfig
from bevkd.eval.nuscenes.ground_truth import GroundTruth, load_ground_truth
from bevkd.eval.nuscenes.metrics import Curve, DetectionMetrics, evaluate
from bevkd.eval.nuscenes.predictions import Predictions, load_predictions, write_submission
from bevkd.eval.nuscenes.run import break_down_files, evaluate_files

__all__ = [
    "KINDS",
    "RANGE_BINS",
    "Boxes",
    "Curve",
    "DetectionConfig",
    "DetectionMetrics",
    "GroundTruth",
    "Predictions",
    "break_down",
    "break_down_files",
    "evaluate",
    "evaluate_files",
    "load_ground_truth",
    "load_predictions",
    "make_boxes",
    "write_submission",
]
