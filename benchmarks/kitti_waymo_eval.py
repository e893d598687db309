"""KITTI and Waymo metrics against straightforward reference loops (`tests/*_reference.py`), on the same random sets.

    python benchmarks/kitti_waymo_eval.py [--kitti-frames 150] [--waymo-frames 40] [--repeats 3]

Both are timed in one run, in turns, and their answers compared. The references work one pair of boxes at a time; that
of Waymo gets SciPy's assignment instead of its own, which tries all. Then our evaluators alone at the size of the
validation sets: 3,769 frames of KITTI, and 40,000 frames of Waymo with 2.4 million boxes, with the peak memory. Writes
`benchmarks/results/kitti_waymo_eval.json`.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

import kitti_reference  # noqa: E402
import waymo_reference  # noqa: E402

from bevkd.eval.kitti import evaluate_files as evaluate_kitti  # noqa: E402
from bevkd.eval.waymo import evaluate_files as evaluate_waymo  # noqa: E402
from bevkd.io import write_json  # noqa: E402


def cpu(work: Callable[[], Any]) -> tuple[float, Any]:
    began = time.process_time()
    out = work()
    return time.process_time() - began, out


def assign(weight: np.ndarray) -> list[tuple[int, int]]:
    """The best matching by SciPy; pairs without weight are none."""
    rows, columns = linear_sum_assignment(weight, maximize=True)
    return [(int(i), int(j)) for i, j in zip(rows, columns, strict=True) if weight[i, j] > 0]


def compare(ours: Callable[[], Any], reference: Callable[[], Any], repeats: int) -> dict[str, Any]:
    """Median CPU seconds of both, in turns, and the answers of the last turn."""
    times: dict[str, list[float]] = {"ours": [], "reference": []}
    answers = {}
    for _ in range(repeats):
        for name, work in (("ours", ours), ("reference", reference)):
            seconds, answers[name] = cpu(work)
            times[name].append(seconds)
    medians = {name: statistics.median(values) for name, values in times.items()}
    return {"medians": medians, "answers": answers}


def kitti(folder: Path, frames: int, repeats: int) -> dict[str, Any]:
    kitti_reference.random_set(folder, seed=0, frames=frames)
    parsed = []
    for path in sorted((folder / "results").iterdir()):
        labels = (folder / "labels" / path.name).read_text()
        parsed.append((kitti_reference.parse(labels, False), kitti_reference.parse(path.read_text(), True)))
    found = compare(
        lambda: evaluate_kitti(folder / "labels", folder / "results", folder / "m.json"),
        lambda: kitti_reference.evaluate(parsed),
        repeats,
    )
    ours, reference = found["answers"]["ours"], found["answers"]["reference"]
    worst = max(
        abs(ours[name][metric][level][key] - value)
        for name, metrics in reference.items()
        for metric, levels in metrics.items()
        for level, values in levels.items()
        for key, value in values.items()
    )
    return summary(frames, found["medians"], worst)


def waymo(folder: Path, frames: int, repeats: int) -> dict[str, Any]:
    data = waymo_reference.random_sets(0, frames)
    np.savez(folder / "sets.npz", **data)
    waymo_reference.best_matching = assign
    found = compare(
        lambda: evaluate_waymo(folder / "sets.npz", folder / "m.json"),
        lambda: waymo_reference.evaluate(data),
        repeats,
    )
    ours, reference = found["answers"]["ours"], found["answers"]["reference"]
    worst = max(abs(ours[name][key] - value) for name, values in reference.items() for key, value in values.items())
    return summary(frames, found["medians"], worst)


def summary(frames: int, medians: dict[str, float], worst: float) -> dict[str, Any]:
    return {
        "frames": frames,
        "ours_cpu_s": round(medians["ours"], 3),
        "reference_cpu_s": round(medians["reference"], 3),
        "ratio": round(medians["reference"] / medians["ours"], 1),
        "largest_difference": float(worst),
    }


def crowd(frames: int, per_frame: int) -> dict[str, np.ndarray]:
    """A Waymo set of validation size: every annotation with a noisy detection, and as many false ones again."""
    rng = np.random.default_rng(0)
    n = frames * per_frame
    centre = rng.uniform(-75, 75, (n, 2))
    box = np.column_stack(
        [centre, rng.normal(1, 0.2, n), np.tile([4.6, 2.0, 1.7], (n, 1)) * rng.uniform(0.8, 1.2, (n, 1))]
    )
    box = np.column_stack([box, rng.uniform(-np.pi, np.pi, n)]).astype(np.float32)
    frame, kind = np.repeat(np.arange(frames), per_frame), rng.choice([1, 2, 4], n, p=[0.6, 0.35, 0.05])
    near = box + rng.normal(0, 0.1, box.shape).astype(np.float32)
    away = box[rng.permutation(n)]
    return {
        "pred_box": np.concatenate([near, away]),
        "pred_type": np.concatenate([kind, rng.permutation(kind)]),
        "pred_frame": np.concatenate([frame, frame]),
        "pred_score": rng.random(2 * n).astype(np.float32),
        "pred_nlz": np.zeros(2 * n, dtype=bool),
        "gt_box": box,
        "gt_type": kind,
        "gt_frame": frame,
        "gt_difficulty": rng.integers(1, 3, n),
    }


def alone(work: Callable[[], Any]) -> dict[str, float]:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds, _ = cpu(work)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"cpu_s": round(seconds, 2), "peak_memory_mb": round(peak / 1e3), "before_mb": round(before / 1e3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kitti-frames", type=int, default=150)
    parser.add_argument("--waymo-frames", type=int, default=40)
    parser.add_argument("--full-kitti", type=int, default=3769)
    parser.add_argument("--full-waymo", type=int, default=40_000)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    result: dict[str, Any] = {"cores": os.cpu_count(), "load_before": round(os.getloadavg()[0], 2)}
    with tempfile.TemporaryDirectory() as name:
        for part in ("kitti", "waymo", "full"):
            (Path(name) / part).mkdir()
        result["kitti"] = kitti(Path(name) / "kitti", options.kitti_frames, options.repeats)
        result["waymo"] = waymo(Path(name) / "waymo", options.waymo_frames, options.repeats)
        full = Path(name) / "full"
        kitti_reference.random_set(full, seed=1, frames=options.full_kitti)
        result["kitti_full"] = {"frames": options.full_kitti} | alone(
            lambda: evaluate_kitti(full / "labels", full / "results", full / "m.json")
        )
        np.savez(full / "sets.npz", **crowd(options.full_waymo, 20))
        result["waymo_full"] = {"frames": options.full_waymo, "boxes": 60 * options.full_waymo} | alone(
            lambda: evaluate_waymo(full / "sets.npz", full / "m.json")
        )
    write_json(ROOT / "benchmarks" / "results" / "kitti_waymo_eval.json", result)
    for name, values in result.items():
        print(f"{name}: {values}")


if __name__ == "__main__":
    main()
