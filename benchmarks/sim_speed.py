"""How many keyframes the simulator makes per second at `sim` scale, with all sweeps and everything written to disk.

    python benchmarks/sim_speed.py [--scenes 40] [--workers 2]

Writes `benchmarks/results/sim_speed.json`. Wall time depends on what else the machine does, so the CPU time of all
processes is reported beside it; the goal is 20 keyframes/s on two cores.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from bevkd.io import write_json
from bevkd.sim import SCALES, simulate_nuscenes
from bevkd.sim.config import LabelledConfig, SplitConfig

GOAL = 20.0


def cpu_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=325, help="scenes to simulate (325: the whole sim scale)")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    base = SCALES["sim"]
    train = options.scenes * 200 // 325
    tune = options.scenes * 50 // 325
    splits = SplitConfig(train, tune, options.scenes - train - tune)
    labelled = LabelledConfig(min(100, train), base.labelled.subsets)
    config = replace(base, splits=splits, labelled=labelled)
    frames = options.scenes * splits.keyframes_per_scene
    with tempfile.TemporaryDirectory() as folder:
        load, cpu, wall = os.getloadavg()[0], cpu_seconds(), time.perf_counter()
        simulate_nuscenes(config, Path(folder) / "nuscenes", seed=0, workers=options.workers)
        wall, cpu = time.perf_counter() - wall, cpu_seconds() - cpu
        size = sum(p.stat().st_size for p in Path(folder).rglob("*") if p.is_file())
    result = {
        "keyframes": frames,
        "workers": options.workers,
        "wall_s": round(wall, 2),
        "cpu_s": round(cpu, 2),
        "keyframes_per_s": round(frames / wall, 2),
        "keyframes_per_cpu_s": round(frames / cpu, 2),
        "kilobytes_per_keyframe": round(size / frames / 1e3, 1),
        "load_before": round(load, 2),
        "cores": os.cpu_count(),
        "goal_keyframes_per_s": GOAL,
        "reached": frames / wall >= GOAL,
    }
    write_json(Path(__file__).parent / "results" / "sim_speed.json", result)
    print("\n".join(f"{name}: {value}" for name, value in result.items()))


if __name__ == "__main__":
    main()
