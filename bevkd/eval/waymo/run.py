"""From a file to a file: the Waymo evaluation as one call."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np

from bevkd.eval.summary import with_frames
from bevkd.eval.waymo.causes import oddities
from bevkd.eval.waymo.metrics import evaluate
from bevkd.eval.waymo.overlap import LetConfig
from bevkd.eval.waymo.sets import read_sets
from bevkd.io import write_json

logger = logging.getLogger(__name__)


def evaluate_files(sets: str | Path, out: str | Path, let: LetConfig | None = None) -> dict[str, Any]:
    """Evaluate the arrays in `sets` and write the metrics to `out`, whole or not at all.

    `frames` counts those with a prediction or an annotation, `warnings` says what is odd about the arrays.

    Raises:
        DataError: see `read_sets`.
    """
    known = read_sets(sets)
    frames = np.union1d(known.predictions.frame, known.annotations.frame)
    metrics = with_frames(evaluate(known, let_config=let), len(frames), oddities(known))
    write_json(out, metrics, indent=2)
    shown = metrics["OBJECT_TYPE_TYPE_VEHICLE_LEVEL_2"]
    logger.info("vehicles, level 2: %s", ", ".join(f"{name} {value:.4f}" for name, value in shown.items()))
    return metrics
