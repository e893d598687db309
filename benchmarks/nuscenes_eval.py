"""The nuScenes metrics against the official devkit at validation size: 6,000 frames, 1.2 million detections.

    python benchmarks/nuscenes_eval.py [--frames 6000] [--repeats 3] [--devkit-repeats 1]

Generates tables and a submission of about 420 MB, then times both evaluators in one run, from the same files: reading
(tables, annotations, detections, filters), matching (everything after), and both together. Writes
`benchmarks/results/nuscenes_eval.json`: medians of wall and of CPU time, the ratios, and the largest difference of any
number in the two summaries. The goals, 10 times from files to summary and 30 times in the matching, are judged by CPU
time (both evaluators use one thread), which hardly changes when the machine does other work. The devkit takes minutes.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import io
import json
import math
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import nuscenes_eval_data as data

from bevkd.eval.nuscenes import DetectionConfig, load_ground_truth, load_predictions
from bevkd.eval.nuscenes.filtering import filter_boxes
from bevkd.eval.nuscenes.metrics import evaluate_filtered
from bevkd.io import write_json

VERSION, SPLIT = "v1.0-trainval", "val"
GOALS = {"files_to_summary": 10.0, "matching": 30.0}
OUT = Path(__file__).parent / "results" / "nuscenes_eval.json"
Times = dict[str, dict[str, float]]


@contextlib.contextmanager
def timed(times: Times, step: str) -> Iterator[None]:
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    times[step] = {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}


def ours(root: Path) -> tuple[Times, dict[str, Any]]:
    times: Times = {}
    config = DetectionConfig.cvpr_2019()
    with timed(times, "files_to_summary"):
        with timed(times, "reading"):
            gt = load_ground_truth(root, VERSION, SPLIT)
            pred = load_predictions(root / "results.json", gt)
            annotations, detections = filter_boxes(gt.boxes, gt, config), filter_boxes(pred.boxes, gt, config)
        with timed(times, "matching"):
            metrics = evaluate_filtered(annotations, detections, config)
        summary = metrics.summary()
    return times, summary


def devkit(root: Path) -> tuple[Times, dict[str, Any]]:
    from nuscenes import NuScenes
    from nuscenes.eval.common.config import config_factory
    from nuscenes.eval.detection.evaluate import DetectionEval

    times: Times = {}
    config = config_factory("detection_cvpr_2019")
    with contextlib.redirect_stderr(io.StringIO()), timed(times, "files_to_summary"):  # progress bars go to stderr
        with timed(times, "reading"):
            nusc = NuScenes(VERSION, str(root), verbose=False)
            results, out = str(root / "results.json"), str(root / "devkit")
            evaluation = DetectionEval(nusc, config, results, SPLIT, out, verbose=False)
        with timed(times, "matching"):
            metrics, _ = evaluation.evaluate()
        summary = metrics.serialize()
    return times, json.loads(json.dumps(summary))


def repeated(run: Callable[[Path], tuple[Times, dict[str, Any]]], root: Path, n: int) -> tuple[Times, dict[str, Any]]:
    """Median times of `n` runs, and the summary."""
    runs = []
    for _ in range(n):
        gc.collect()
        times, summary = run(root)
        runs.append(times)
        print(f"{run.__name__}: " + ", ".join(f"{step} {t['wall_s']:.2f} s" for step, t in times.items()), flush=True)
    medians = {
        step: {clock: round(statistics.median(times[step][clock] for times in runs), 3) for clock in runs[0][step]}
        for step in runs[0]
    }
    return medians, summary


def largest_difference(a: Any, b: Any) -> float:
    """Largest difference of two summaries, `eval_time` apart; infinite where they differ in structure."""
    if isinstance(a, dict) and isinstance(b, dict) and set(a) == set(b):
        return max((largest_difference(a[key], b[key]) for key in a if key != "eval_time"), default=0.0)
    if isinstance(a, (int, float)) and isinstance(b, (int, float)):
        return 0.0 if a == b or (math.isnan(a) and math.isnan(b)) else abs(a - b)
    return 0.0 if a == b else math.inf


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=6000, help="a multiple of 40, at most 6000")
    parser.add_argument("--boxes", type=int, default=200, help="detections per frame")
    parser.add_argument("--annotations", type=int, default=34, help="annotations per frame")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--devkit-repeats", type=int, default=1)
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        world = data.write_tables(root, options.frames, options.annotations, seed=0)
        n = data.write_submission(root / "results.json", world, options.boxes, seed=0)
        size = (root / "results.json").stat().st_size
        load = os.getloadavg()[0]
        our_times, our_summary = repeated(ours, root, options.repeats)
        devkit_times, devkit_summary = repeated(devkit, root, options.devkit_repeats)
    ratios = {
        step: {clock: round(devkit_times[step][clock] / t, 1) for clock, t in our_times[step].items()}
        for step in our_times
    }
    result = {
        "frames": options.frames,
        "detections": n,
        "annotations": len(world["objects"]),
        "submission_mb": round(size / 1e6, 1),
        "ours": our_times | {"repeats": options.repeats},
        "devkit": devkit_times | {"repeats": options.devkit_repeats},
        "ratio": ratios,
        "goals": GOALS,
        "reached": {step: ratios[step]["cpu_s"] >= goal for step, goal in GOALS.items()},
        "largest_difference": largest_difference(our_summary, devkit_summary),
        "mean_ap": our_summary["mean_ap"],
        "nd_score": our_summary["nd_score"],
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "load_before": round(load, 2),
            "python": platform.python_version(),
            "numpy": np.__version__,
        },
    }
    write_json(options.out, result)
    print(json.dumps({key: result[key] for key in ("ratio", "reached", "largest_difference")}, indent=1))


if __name__ == "__main__":
    main()
