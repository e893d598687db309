"""A copy of the repository to run workflows in, and the programs that run them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent


def working_files() -> list[str]:
    """What a clone of the repository would hold: files that are tracked, or new and not ignored."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    return [name for name in listed.stdout.decode().split("\0") if name and (ROOT / name).is_file()]


def copy_repository(folder: Path, *, results: bool = False) -> Path:
    """A clean clone of the working tree; without `results`, nothing that a run would make."""
    for name in working_files():
        if name.startswith("results/") and not results:
            continue
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, target)
    return folder


def environment() -> dict[str, str]:
    """The environment of a user who calls programs by path: without this test's own settings."""
    env = {key: value for key, value in os.environ.items() if not key.startswith(("BEVKD_", "SNAKEMAKE", "PYTEST"))}
    return env | {"PATH": f"{BIN}{os.pathsep}{env['PATH']}", "OMP_NUM_THREADS": "1", "DVC_NO_ANALYTICS": "1"}


def run(folder: Path, *command: str, ok: bool = True, timeout: float = 850) -> subprocess.CompletedProcess[str]:
    """Run a program of the environment in a folder; with `ok`, its output is shown when it fails."""
    done = subprocess.run(
        [str(BIN / command[0]) if (BIN / command[0]).exists() else command[0], *command[1:]],
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
    )
    if ok and done.returncode != 0:
        logs = [
            f"--- {p}\n{p.read_text()[-2000:]}"
            for p in sorted(folder.glob("results/logs/**/*.log"))
            if p.stat().st_size
        ]
        raise AssertionError(
            f"{' '.join(command)} gave {done.returncode}\n{done.stdout[-6000:]}\n" + "\n".join(logs[-3:])
        )
    return done


def snakemake(folder: Path, *arguments: str, ok: bool = True, timeout: float = 850) -> str:
    """Run Snakemake in a folder; what it prints."""
    return run(folder, "snakemake", *arguments, ok=ok, timeout=timeout).stdout


def jobs(plan: str) -> dict[str, int]:
    """Job counts per rule of what a dry run printed."""
    counts: dict[str, int] = {}
    lines = iter(plan.splitlines())
    for line in lines:
        if line.startswith("Job stats"):
            next(lines), next(lines)
            for row in lines:
                if not row.strip():
                    return counts
                rule, count = row.split()
                counts[rule] = int(count)
    return counts


# Stands in for bevkd where only the graph matters: writes what the real command would write, and when it ran.
FAKE_LAUNCHER = """
import json, sys, time
from pathlib import Path

gpus, command, *rest = sys.argv[1:]
options = dict(zip(rest[::2], rest[1::2]))
began = time.time()
if command == "simulate":
    (Path(options["--out"]) / "v1.0-sim").mkdir(parents=True)
elif command == "convert":
    Path(options["--out"], "frames.parquet").write_text("")
elif command == "train":
    time.sleep(1.0)
    folder = Path("results/runs", options["--scale"], options["--run"], "seed" + options["--seed"])
    (folder / "model.pt").write_text("")
    (folder / "config.yaml").write_text("")
with open("calls.jsonl", "a") as stream:
    stream.write(json.dumps({"command": command, "gpus": int(gpus), "began": began, "ended": time.time()}) + "\\n")
"""


def with_fake_launcher(folder: Path) -> Path:
    """Replace the commands of a copy by quick stand-ins; look-ups that the Snakefile imports stay."""
    script = folder / "workflow" / "scripts" / "launch.py"
    real = script.read_text()
    head, _, _ = real.partition('if __name__ == "__main__":')
    script.write_text(
        f'{head}if __name__ == "__main__":\n' + "".join(f"    {line}\n" for line in FAKE_LAUNCHER.splitlines())
    )
    return folder
