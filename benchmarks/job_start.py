"""Start-up of a workflow job, forked from the warm process against started cold: seconds of one tiny training.

    python benchmarks/job_start.py [--repeats 5]

Both run `launch.py 0 train` for two steps of the smoke scale's camera detector on the same data, in turn, so that
other load hits both alike. Writes `benchmarks/results/job_start.json`.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bevkd.data import convert_nuscenes
from bevkd.io import write_json
from bevkd.sim import SCALES, simulate_nuscenes

ROOT = Path(__file__).resolve().parents[1]


def job(folder: Path, out: str, warm: str) -> float:
    """Seconds of one training."""
    command = ["train", "--run", "camera_fresh", "--scale", "smoke", "--runs", str(folder / out)]
    settings = [f"data.root={folder / 'data'}", f"data.index={folder / 'index'}", "train.steps=2"]
    environment = os.environ | {"BEVKD_WORKFLOW_PID": str(os.getpid()), "BEVKD_WARM": warm}
    began = time.perf_counter()
    subprocess.run(
        [sys.executable, "workflow/scripts/launch.py", "0", *command, *(a for s in settings for a in ("--set", s))],
        cwd=ROOT,
        env=environment,
        check=True,
        capture_output=True,
    )
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    with tempfile.TemporaryDirectory() as name:
        folder, load = Path(name), os.getloadavg()[0]
        simulate_nuscenes(SCALES["smoke"], folder / "data", seed=0)
        convert_nuscenes(folder / "data", "v1.0-sim", folder / "index")
        first = job(folder, "first", "1")  # also starts the server
        pairs = [(job(folder, f"cold{i}", "0"), job(folder, f"warm{i}", "1")) for i in range(repeats)]
    cold, warm = (statistics.median(values) for values in zip(*pairs, strict=True))
    result = {
        "repeats": repeats,
        "cold_s": round(cold, 2),
        "warm_s": round(warm, 2),
        "ratio_cold_over_warm": round(statistics.median(c / w for c, w in pairs), 2),
        "first_warm_job_s": round(first, 2),
        "load_before": round(load, 2),
        "cores": os.cpu_count(),
    }
    write_json(Path(__file__).parent / "results" / "job_start.json", result)
    print("\n".join(f"{name}: {value}" for name, value in result.items()))


if __name__ == "__main__":
    main()
