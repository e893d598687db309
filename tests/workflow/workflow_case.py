"""A copy of the repository to run workflows in, and the programs that run them."""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from forked_snakemake import Forked
from session_shared import Shared

from bevkd.io import digest

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


@functools.cache
def _forker() -> Forked:
    started = Forked()
    atexit.register(started.close)
    return started


def _forked(folder: Path, command: tuple[str, ...], timeout: float) -> subprocess.CompletedProcess[str]:
    """Snakemake with its libraries loaded already."""
    with tempfile.NamedTemporaryFile("r") as out:
        status = _forker().run(folder, list(command[1:]), environment(), Path(out.name), timeout)
        return subprocess.CompletedProcess(command, status, out.read())


def run(folder: Path, *command: str, ok: bool = True, timeout: float = 2400) -> subprocess.CompletedProcess[str]:
    """Run a program of the environment in a folder; with `ok`, its output is shown when it fails."""
    if command[0] == "snakemake" and sys.platform == "linux":
        done = _forked(folder, command, timeout)
    else:
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


def snakemake(folder: Path, *arguments: str, ok: bool = True, timeout: float = 2400) -> str:
    """Run Snakemake in a folder; what it prints."""
    return run(folder, "snakemake", *arguments, ok=ok, timeout=timeout).stdout


class Plans:
    """What Snakemake plans in a clean clone. A plan is made once, for all tests of a session that read it.

    Attributes:
        clone: the clone, in which nothing may be changed or made.
    """

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self.clone = shared.made("clone", copy_repository)

    def __call__(self, *arguments: str) -> str:
        """What a dry run with these arguments prints, with the commands of its jobs."""
        return self.printed("--dry-run", "--printshellcmds", *arguments)

    def everything(self, scale: str = "sim") -> str:
        """The plan of the default target on two cores; at the default scale this is not said."""
        return self("--cores", "2", *([] if scale == "sim" else ["--config", f"scale={scale}"]))

    def printed(self, *arguments: str) -> str:
        """What Snakemake prints with these arguments, which make nothing."""
        name = f"printed/{digest(arguments)}"
        return self._shared.made(name, lambda path: path.write_text(snakemake(self.clone, *arguments))).read_text()


def documented_resume() -> list[list[str]]:
    """Arguments of Snakemake in `make resume`, as make expands them."""
    plan = run(ROOT, "make", "--dry-run", "VENV=venv", "CORES=all", "ARGS=", "resume").stdout
    lines = [line.split() for line in plan.splitlines()]
    recipe = [line for line in lines if line and line[0] == "venv/bin/snakemake"]
    assert len(recipe) == 2
    return [line[1:] for line in recipe]


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
name = rest.pop(0) if command in ("table", "figure", "part") else ""
options = {key: value for key, value in zip(rest, rest[1:]) if key.startswith("--")}
scale, out = options.get("--scale"), Path(options.get("--out", ""))
began = time.time()
folder = Path("results/runs", scale or "", options.get("--run", ""), "seed" + options.get("--seed", ""))


def write(*paths, text="x"):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


if command == "simulate":
    write(out / "v1.0-sim" / "sample.json")
elif command == "convert":
    write(out / "frames.parquet")
elif command == "virtual-points":
    write(Path(options["--index"] + "_virtual", "manifest.json"), text="{}")
elif command == "train":
    time.sleep(float(Path("train_seconds").read_text()))
    write(folder / "model.pt", folder / "config.yaml")
elif command == "cache":
    write(Path("results/cache", scale, options["--name"], options["--audience"] + ".json"))
elif command == "predict":
    write(*(folder / f"{kind}_{options['--split']}.json" for kind in ("predictions", "metrics")))
elif command in ("breakdown", "gates", "matches"):
    write(folder / f"{command}_{options['--split']}.json", text="{}")
elif command == "attention":
    write(folder / f"attention_{options['--split']}.npz")
elif command in ("bench", "profile", "response"):
    write(out, text="{}")
elif command == "table":
    write(*(out / "tables" / f"{name}.{end}" for end in ("csv", "md", "tex")), text="row,mAP_ours\\na,1\\n")
elif command == "figure":
    write(*(out / "figures" / f"{name}.{end}" for end in ("png", "pdf")))
elif command == "part":
    write(out / "ledger" / f"{name}.csv", text="claim,verdict\\na,reproduced\\n")
    write(out / "records" / "camera_base.json", out / "parts" / f"{name}.json", text="{}")
    write(out / "configs" / "camera_base.yaml")
elif command == "report":
    write(out / "report.html")
    write(out / "claims.csv", text="claim,verdict\\na,reproduced\\n")
    write(out / "metrics.json", text=json.dumps({"runs": {"camera_base": {"mAP": 12.5}}}))
    for path in (out / "ledger").glob("*.csv"):
        write(out / "metrics" / f"{path.stem}.json", text=json.dumps({"runs": 2, "reproduced": 1}))
    write(out / "plots" / "seeds.csv", text="run,seed,mAP\\ncamera_base,0,12.5\\n")
    write(out / "plots" / "classes.csv", text="run,class,AP\\ncamera_base,car,12.5\\n")
    write(out / "plots" / "training.csv", text="run,step,total\\ncamera_base,1,2.5\\n")
else:
    sys.exit(f"no stand-in for {command}")
with open("calls.jsonl", "a") as stream:
    stream.write(json.dumps({"command": command, "gpus": int(gpus), "began": began, "ended": time.time()}) + "\\n")
"""


def with_fake_launcher(folder: Path, train_seconds: float = 0.0) -> Path:
    """Replace the commands of a copy by quick stand-ins; look-ups that the Snakefile imports stay."""
    script = folder / "workflow" / "scripts" / "launch.py"
    head, _, _ = script.read_text().partition('if __name__ == "__main__":')
    body = "".join(f"    {line}\n" if line else "\n" for line in FAKE_LAUNCHER.splitlines())
    script.write_text(f'{head}if __name__ == "__main__":\n{body}')
    (folder / "train_seconds").write_text(str(train_seconds))
    return folder


def with_papers(folder: Path, *names: str) -> Path:
    """Drop all papers of a copy but these, which must be enough for each other."""
    for path in (folder / "config" / "papers").iterdir():
        if path.is_dir() and path.name not in names:
            shutil.rmtree(path)
    return folder


def small_copy(folder: Path) -> Path:
    """A clean clone with the runs of one paper, and the weights that they start from."""
    return with_papers(copy_repository(folder), "image_weights", "unidistill")


def smoke_by_default(folder: Path) -> Path:
    """Make smoke scale, with one seed per run, the default of a copy."""
    for path, old, new in (
        ("config/config.yaml", "scale: sim", "scale: smoke"),
        ("config/config.yaml", "seeds: 0", "seeds: 1"),
        ("dvc.yaml", "scale: sim", "scale: smoke"),
        ("dvc.yaml", "results: results", "results: results/smoke"),
    ):
        text = (folder / path).read_text()
        assert old in text
        (folder / path).write_text(text.replace(old, new, 1))
    return folder
