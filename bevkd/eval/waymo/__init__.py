"""Waymo detection metrics: AP and APH per type, range and level, and their longitudinal error tolerant variants."""

from bevkd.eval.waymo.metrics import CUTOFFS, LetConfig, evaluate
from bevkd.eval.waymo.run import evaluate_files
from bevkd.eval.waymo.sets import TYPES, Sets, read_sets

__all__ = ["CUTOFFS", "TYPES", "LetConfig", "Sets", "evaluate", "evaluate_files", "read_sets"]
