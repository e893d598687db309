"""The number that stands for a detector: what a progress line and a closing line can hold."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bevkd.config.snapshots import FOLDER
from bevkd.errors import DataError
from bevkd.io import read_json
from bevkd.report.metrics import METRICS, value_of

# Name -> metric: of nuScenes, KITTI, Waymo from cameras and Waymo; the first that a file has.
_MAIN = {
    "mAP": "mAP",
    "3D AP": "3d_mean_moderate",
    "LET-APL": "LET_APL",
    "vehicle AP": "L2_AP_vehicle",
}


def main_metric(metrics: Mapping[str, Any]) -> str:
    """Such as `mAP 12.3`; "" where there is no number."""
    for name, key in _MAIN.items():
        try:
            return f"{name} {value_of(metrics, key, Path()):.{METRICS[key].digits}f}"
        except DataError:
            continue
    return ""


def last_known(run: Path) -> str:
    """The main metric of the newest evaluation of a run or one of its snapshots, such as `mAP 12.3 (val)`; or ""."""
    files = [*run.glob("metrics_*.json"), *run.glob(f"{FOLDER}/*/metrics_*.json")]
    for file in sorted(files, key=lambda path: path.stat().st_mtime_ns, reverse=True):
        try:
            found = main_metric(read_json(file))
        except DataError:
            continue
        if found:
            snapshot = "" if file.parent == run else f", {file.parent.name}"
            return f"{found} ({file.stem.removeprefix('metrics_')}{snapshot})"
    return ""
