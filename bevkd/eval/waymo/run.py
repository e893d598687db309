"""From a file to a file: the Waymo evaluation as one call."""

from __future__ import annotations

import logging
from pathlib import Path

from bevkd.eval.waymo.metrics import evaluate
from bevkd.eval.waymo.overlap import LetConfig
from bevkd.eval.waymo.sets import read_sets
from bevkd.io import write_json

logger = logging.getLogger(__name__)


def evaluate_files(sets: str | Path, out: str | Path, let: LetConfig | None = None) -> dict[str, dict[str, float]]:
    """Evaluate the arrays in `sets` and write the metrics to `out`, whole or not at all.

    Raises:
        DataError: see `read_sets`.
    """
    metrics = evaluate(read_sets(sets), let_config=let)
    write_json(out, metrics, indent=2)
    shown = metrics["OBJECT_TYPE_TYPE_VEHICLE_LEVEL_2"]
    logger.info("vehicles, level 2: %s", ", ".join(f"{name} {value:.4f}" for name, value in shown.items()))
    return metrics
