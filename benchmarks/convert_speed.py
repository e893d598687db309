"""Conversion of simulated KITTI and Waymo: frames per second, and memory that does not grow with the segments.

    python benchmarks/convert_speed.py [--frames 400] [--segments 5 80] [--workers 1]

KITTI frames are repeated under other names, and so are Waymo segments. Each conversion runs in a process of its own,
whose peak memory is reported. Reading frames back (all LiDARs of a frame as points) is timed, too. Writes
`benchmarks/results/convert_speed.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from bevkd.data.waymo import Segment
from bevkd.io import write_json
from bevkd.sim import KITTI_SCALES, WAYMO_SCALES, simulate_kitti, simulate_waymo
from bevkd.sim.config import LabelledConfig, SplitConfig

_CHILD = """
import json, resource, sys, time
from bevkd.registry import lookup
began = time.perf_counter()
lookup("reader", sys.argv[1]).convert(sys.argv[2], None, sys.argv[3], int(sys.argv[4]))
own = resource.getrusage(resource.RUSAGE_SELF)
children = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps({
    "wall_s": time.perf_counter() - began,
    "cpu_s": own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime,
    "peak_memory_mb": max(own.ru_maxrss, children.ru_maxrss) / 1e3,
}))
"""


def convert(reader: str, root: Path, out: Path, workers: int, frames: int) -> dict[str, Any]:
    command = [sys.executable, "-c", _CHILD, reader, str(root), str(out), str(workers)]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    per_second = {"frames": frames, "frames_per_s": frames / found["wall_s"]}
    return {name: round(value, 2) for name, value in (per_second | found).items()}


def kitti(folder: Path, frames: int) -> Path:
    config = replace(
        KITTI_SCALES["paper"],
        splits=SplitConfig(train=2, tune=1, val=1, keyframes_per_scene=2),
        labelled=LabelledConfig(count=4, subsets=1),
    )
    simulate_kitti(config, folder, seed=0)
    shutil.rmtree(folder / "ImageSets")
    (folder / "labelled.json").unlink()
    for i in range(8, frames):
        for kind, suffix in (("velodyne", "bin"), ("image_2", "png"), ("calib", "txt"), ("label_2", "txt")):
            place = folder / "training" / kind
            os.link(place / f"{i % 8:06d}.{suffix}", place / f"{i:06d}.{suffix}")
    return folder


def waymo(folder: Path, segments: int) -> Path:
    smoke = WAYMO_SCALES["smoke"]
    config = replace(
        smoke,
        splits=replace(smoke.splits, train=1, tune=1, val=1, keyframes_per_scene=20),
        labelled=LabelledConfig(count=1, subsets=1),
    )
    simulate_waymo(config, folder, seed=0)
    (folder / "labelled.json").unlink()
    for name in ("tuning", "validation"):
        shutil.rmtree(folder / name)
    for component in (folder / "training").iterdir():
        (path,) = component.glob("*.parquet")
        for i in range(1, segments):
            os.link(path, component / f"{path.stem}{i:04d}.parquet")
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=400)
    parser.add_argument("--segments", type=int, nargs=2, default=[5, 80])
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    result: dict[str, Any] = {"workers": options.workers, "cores": os.cpu_count()}
    with tempfile.TemporaryDirectory() as name:
        root = kitti(Path(name) / "kitti", options.frames)
        result["kitti"] = convert("kitti", root, Path(name) / "kitti_index", options.workers, options.frames)
        for segments in options.segments:
            root = waymo(Path(name) / f"waymo{segments}", segments)
            out = Path(name) / f"waymo_index{segments}"
            result[f"waymo_{segments}_segments"] = convert("waymo", root, out, options.workers, 20 * segments)
        few, many = (result[f"waymo_{n}_segments"]["peak_memory_mb"] for n in options.segments)
        result["waymo_memory_ratio"] = round(many / few, 2)
        path = next((root / "training" / "vehicle_pose").glob("*.parquet"))
        segment = Segment(root, f"training/{path.stem}")
        times = sorted(segment._poses)
        began = time.perf_counter()
        points = sum(len(segment.points(time)) for time in times)
        seconds = time.perf_counter() - began
        result["waymo_points"] = {
            "frames_per_s": round(len(times) / seconds, 1),
            "points_per_frame": points // len(times),
        }
    write_json(Path(__file__).parent / "results" / "convert_speed.json", result)
    for key, values in result.items():
        print(f"{key}: {values}")


if __name__ == "__main__":
    main()
