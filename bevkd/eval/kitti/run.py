"""From folders to a file: the KITTI evaluation as one call."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bevkd.data.kitti.objects import OTHER, Objects, read_folder
from bevkd.errors import DataError
from bevkd.eval.kitti.causes import oddities
from bevkd.eval.kitti.frames import choose
from bevkd.eval.kitti.metrics import evaluate
from bevkd.eval.summary import with_frames
from bevkd.io import write_json

logger = logging.getLogger(__name__)


def evaluate_files(
    labels: str | Path,
    results: str | Path,
    out: str | Path,
    frames: Sequence[str] | None = None,
    categories: Mapping[str, str | None] | None = None,
) -> dict[str, Any]:
    """Evaluate result files against label files and write the metrics to `out`, whole or not at all.

    The files may lie in `<results>/data`, as the benchmark wants them. Beside the metrics stand `frames`, their number,
    and `warnings` where there are any: files that are left out, boxes that look to be in another convention.

    Args:
        labels: folder of label files.
        results: folder of result files.
        out: file to write.
        frames: names of the frames; those without a result file count as frames without detections. None: the frames
            with a result file, as in the benchmark.
        categories: own types of the labels and the types that they count as.

    Raises:
        DataError: a folder or file is missing or bad, or a result file has no label file.
    """
    labels, results = Path(labels), Path(results)
    folder = results / "data" if (results / "data").is_dir() else results
    for path in (labels, folder):
        if not path.is_dir():
            raise DataError("no such folder", file=path)
    chosen = choose(labels, folder, frames)
    truth = read_folder(labels, chosen.names, scored=False, categories=categories)
    found = read_folder(folder, chosen.found, scored=True)
    place = {name: i for i, name in enumerate(chosen.names)}
    number = np.array([place[name] for name in chosen.found], dtype=np.int64)
    found = replace(found, frame=number[found.frame])
    warnings = [*chosen.warnings, *_other_types(found), *oddities(truth, found)]
    metrics = with_frames(evaluate(truth, found), len(chosen.names), warnings)
    write_json(out, metrics, indent=2)
    shown = metrics["mean"]["3d"]["moderate"]["R40"]
    text = "none" if shown is None else f"{shown:.2f}"
    logger.info("%d frames: mean 3D AP, moderate, R40: %s", len(chosen.names), text)
    return metrics


def _other_types(found: Objects) -> list[str]:
    """Whether detections are of types that no class is scored for, because KITTI has none of the name."""
    other = found.kind == OTHER
    if not other.any() or found.words is None:
        return []
    shown = ", ".join(sorted(set(found.words[other].tolist()))[:5])
    return [f"{other.sum()} of {len(found)} detections are of types that KITTI has not ({shown}) and do not count"]
