"""From folders to a file: the KITTI evaluation as one call."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from bevkd.data.kitti.objects import read_folder
from bevkd.errors import DataError
from bevkd.eval.kitti.metrics import evaluate
from bevkd.io import write_json

logger = logging.getLogger(__name__)


def evaluate_files(labels: str | Path, results: str | Path, out: str | Path) -> dict[str, Any]:
    """Evaluate result files against label files and write the metrics to `out`, whole or not at all.

    Frames are those with a result file, as in the benchmark; a frame without detections has an empty one. The files may
    lie in `<results>/data`, as the benchmark wants them.

    Raises:
        DataError: a folder or file is missing or bad, or a result file has no label file.
    """
    labels, results = Path(labels), Path(results)
    folder = results / "data" if (results / "data").is_dir() else results
    for path in (labels, folder):
        if not path.is_dir():
            raise DataError("no such folder", file=path)
    frames = sorted(path.stem for path in folder.glob("*.txt"))
    if not frames:
        raise DataError("no result files", file=folder)
    for frame in frames:
        if not (labels / f"{frame}.txt").is_file():
            raise DataError("a result for a frame without labels", file=folder / f"{frame}.txt", token=frame)
    metrics = evaluate(read_folder(labels, frames, scored=False), read_folder(folder, frames, scored=True))
    write_json(out, metrics, indent=2)
    shown = metrics["mean"]["3d"]["moderate"]["R40"]
    logger.info("%d frames: mean 3D AP, moderate, R40: %s", len(frames), "none" if shown is None else f"{shown:.2f}")
    return metrics
