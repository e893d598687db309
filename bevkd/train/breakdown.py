"""Metrics of a trained run by groups of objects and frames, from the detections that lie beside its model."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bevkd.errors import ConfigError, DataError
from bevkd.io import check_output
from bevkd.registry import lookup
from bevkd.train.checkpoint import MODEL, read_config
from bevkd.train.predict import predict, submission_frames

logger = logging.getLogger(__name__)


def break_down_run(
    folder: Path, split: str, range_bins: Sequence[float], out: Path | None = None
) -> tuple[dict[str, Any], Path]:
    """Write `breakdown_<split>.json` beside the model (or `out`): group -> numbers, such as `range:0-20`.

    What `bevkd predict` has detected is read; only where it is gone is it detected again.

    Args:
        folder: of the run.
        split: of the index.
        range_bins: borders of the groups by range (m); not those that the run was trained with, for they are no part of
            a training.
        out: file to write.

    Returns:
        The content of the file, and the file.

    Raises:
        CheckpointError: there is no usable model.
        ConfigError: no such split, bins that are none, or data of another format than nuScenes.
        DataError: bad data, or a split without labels.
    """
    folder = Path(folder)
    run = read_config(folder / MODEL)
    submission = lookup("submission", run.data.kind)
    if not hasattr(submission, "break_down"):
        raise ConfigError(f"run {run.run!r} reads {run.data.kind}: only metrics of nuScenes are broken down by groups")
    frames = submission_frames(run, split)
    file = folder / f"breakdown_{split}.json" if out is None else Path(out)
    check_output(file)
    if not frames.has_annotations:
        raise DataError(f"split {split!r} has no labels", file=run.data.index)
    results = folder / f"predictions_{split}.json"
    if not results.exists():
        logger.warning("%s is gone: detecting again", results)
        results = predict(folder, split, folder / f"predictions_{split}")
    found: dict[str, Any] = submission.break_down(run, frames, results, file, range_bins)
    return found, file
