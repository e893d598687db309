"""Snakemake's own CPU time for the smoke graph, jobs stubbed: with its limit of job starts per second and without, and
with the lines that a user sees (`workflow/scripts/console.py`) instead of its own text.

    python benchmarks/workflow_cost.py [--cores 2]

All runs go through all jobs of `snakemake --config scale=smoke` in a clean copy of the working tree, whose jobs only
write empty outputs; `--no-hooks` leaves the limit in place (`workflow/scripts/rate_limit.py` says what it does). Also
the CPU seconds of a dry run, and the milliseconds of one refresh of the bar (one a second, on a terminal). Writes
`benchmarks/results/workflow_cost.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from snakemake import __version__

from bevkd.io import write_json

ROOT = Path(__file__).resolve().parents[1]

# The jobs are children: they do not count.
MEASURED = """
import atexit, json, resource, sys, time
began = time.perf_counter()

def say():
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = {"cpu_s": round(used.ru_utime + used.ru_stime, 2), "wall_s": round(time.perf_counter() - began, 1)}
    print(json.dumps(seconds), file=sys.stderr)

atexit.register(say)
from snakemake.cli import main
main(sys.argv[1:])
"""


def own_seconds(folder: Path, environment: dict[str, str], *arguments: str) -> dict[str, float]:
    """CPU and wall seconds of the Snakemake process in a folder."""
    command = [sys.executable, "-c", MEASURED, *arguments, "--config", "scale=smoke"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr[-4000:])
    seconds: dict[str, float] = json.loads(done.stderr.splitlines()[-1])
    return seconds


def bar_seconds(jobs: int = 445, times: int = 200) -> float:
    """CPU seconds of drawing the bar once, for a plan of so many jobs, half of them done."""
    sys.path.insert(0, str(ROOT / "workflow" / "scripts"))
    from bar import Bar
    from progress import Progress, Work
    from rich.console import Console

    work = {job: Work("train", f"run{job} seed 0", 40.0) for job in range(jobs)}
    progress = Progress(work, {jobs - 1: list(work)}, 2)
    for job in range(jobs // 2):
        progress.finish(job)
    progress.start(jobs // 2)
    with open(os.devnull, "w") as stream:
        bar = Bar(progress, Console(file=stream, force_terminal=True, width=120))
        began = time.process_time()
        for _ in range(times):
            bar.live.refresh()
        bar.stop()
    return (time.process_time() - began) / times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cores", default="2")
    cores = parser.parse_args().cores
    sys.path.insert(0, str(ROOT / "tests" / "workflow"))
    from workflow_case import copy_repository, environment, with_fake_launcher

    variables = environment()
    load, found = os.getloadavg()[0], dict[str, Any]()
    for name, options in (("limit_off", ()), ("console", ()), ("limit_on", ("--no-hooks",))):
        variables["BEVKD_CONSOLE"] = str(int(name == "console"))
        with tempfile.TemporaryDirectory() as folder:
            copy = with_fake_launcher(copy_repository(Path(folder)))
            if "dry_run" not in found:
                found["dry_run"] = own_seconds(copy, variables, "--dry-run", "--cores", cores)
            found[name] = own_seconds(copy, variables, "--cores", cores, *options)
            found.setdefault("jobs", len((copy / "calls.jsonl").read_text().splitlines()))
    result = found | {
        "bar_ms": round(1e3 * bar_seconds(), 2),
        "ratio_console_over_off": round(found["console"]["cpu_s"] / found["limit_off"]["cpu_s"], 2),
        "ratio_on_over_off": round(found["limit_on"]["cpu_s"] / found["limit_off"]["cpu_s"], 2),
        "snakemake": __version__,
        "load_before": round(load, 2),
        "cores": os.cpu_count(),
    }
    write_json(Path(__file__).parent / "results" / "workflow_cost.json", result)
    print("\n".join(f"{name}: {value}" for name, value in result.items()))


if __name__ == "__main__":
    main()
