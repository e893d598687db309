"""Run `bevkd` as a job of the workflow: one thread per process, GPUs of its own, and no longer than the workflow.

usage: launch.py GPUS COMMAND ...       e.g. launch.py 1 train --run lidar_base

With no GPU it runs `python -m bevkd COMMAND`, or lets a process of the workflow that has the libraries loaded do so
(`warm.py`). On a workstation it waits until so many are free: each is one lock file, and locks go with the process, so
that a killed job frees its GPUs. With more than one, `torchrun` starts a process for each. A cluster hands out GPUs
itself (CUDA_VISIBLE_DEVICES); locks are per machine and do no harm there.
"""

from __future__ import annotations

import fcntl
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # also where Python does not do so itself (PYTHONSAFEPATH)
import warm_client
from processes import WARM, WORKFLOW_PID, alive
from retries import HOPELESS, LAST_LINE

# Jobs that start from `warm.py`.
_WARM = (
    *("simulate", "convert", "train", "cache", "predict", "response", "breakdown"),
    *("bench", "profile", "table", "figure", "part", "report"),
)


def devices() -> list[str]:
    """Names of the GPUs that PyTorch can use here, found without importing torch or starting CUDA."""
    spec = find_spec("torch")
    if spec is None or spec.origin is None:
        return []
    build = Path(spec.origin).with_name("version.py").read_text(encoding="utf-8")
    if re.search(r"^cuda\b.*= None", build, re.MULTILINE):
        return []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [part.strip() for part in visible.split(",") if part.strip()]
    matches = (re.fullmatch(r"nvidia(\d+)", path.name) for path in Path("/dev").glob("nvidia*"))
    return sorted(match[1] for match in matches if match)


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def take(count: int, names: list[str], folder: Path) -> list[str]:
    """Lock `count` of the GPUs for the life of this process; waits for them.

    Raises:
        ValueError: there are fewer than `count` at all.
    """
    if count > len(names):
        raise ValueError(f"{count} GPUs wanted, {len(names)} present")
    folder.mkdir(parents=True, exist_ok=True)
    while True:
        held: dict[str, int] = {}
        for name in names:
            handle = os.open(folder / f"{name.replace('/', '_')}.lock", os.O_RDWR | os.O_CREAT, 0o666)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(handle)
                continue
            held[name] = handle
            if len(held) == count:
                for handle in held.values():
                    os.set_inheritable(handle, True)  # the lock lasts as long as the command, too
                return list(held)
        for handle in held.values():  # all or none, or two waiting jobs could hold what the other needs
            os.close(handle)
        time.sleep(1.0)


def prepare_environment(main_process: bool) -> None:
    """What jobs inherit: `python` is this interpreter unless conda provides another, and whose jobs they are.

    Args:
        main_process: this is the workflow itself, not one of its jobs on a cluster node, which would load the
            libraries for itself alone.
    """
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    os.environ[WORKFLOW_PID] = str(os.getpid())
    os.environ[WARM] = "1" if main_process and os.environ.get(WARM) != "0" else "0"


def supervise(command: list[str], workflow: int | None) -> int:
    """Run a command to its end, or ask it to stop when the workflow that wanted it is gone; its exit status.

    Without this, the jobs of a workflow that was killed with -9 would go on beside those of the next one. A training
    that is asked to stop writes a checkpoint first.
    """
    with subprocess.Popen(command, close_fds=False) as process:
        # The terminal sends Ctrl-C to everybody; others talk to this process alone.
        signal.signal(signal.SIGINT, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: process.terminate())
        asked = False
        while True:
            try:
                status = process.wait(timeout=0.5)
            except subprocess.TimeoutExpired:
                if not asked and workflow is not None and not alive(workflow):
                    print("the workflow is gone: stopping", file=sys.stderr, flush=True)
                    process.terminate()
                    asked = True
                continue
            return status if status >= 0 else 128 - status


def main(arguments: list[str]) -> int:
    """Run the command; its exit status, with a word in the log where another try would be of no use."""
    status = run(arguments)
    if status in HOPELESS:
        print(LAST_LINE, file=sys.stderr, flush=True)
    return status


def run(arguments: list[str]) -> int:
    """Run the command; its exit status."""
    if len(arguments) < 2 or not arguments[0].isdigit():
        print("usage: launch.py GPUS COMMAND ...", file=sys.stderr)
        return 2
    gpus, command = int(arguments[0]), ["-v", *arguments[1:]]
    # Snakemake sets these to the threads of the rule, but workers are processes: each would start so many threads.
    for name in ("OMP", "OPENBLAS", "MKL"):
        os.environ[f"{name}_NUM_THREADS"] = "1"
    if gpus > 0:
        folder = Path(tempfile.gettempdir()) / f"bevkd-gpus-{os.getuid()}"
        there = devices()
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(take(gpus, there, folder))
        os.environ["BEVKD_CORES"] = str(max(1, cores() * gpus // len(there)))  # jobs on the other GPUs have data, too
    owner = int(os.environ.get(WORKFLOW_PID) or 0) or None
    forks = sys.platform == "linux"  # elsewhere the libraries do not survive a fork
    if owner and forks and gpus == 0 and os.environ.get(WARM) == "1" and arguments[1] in _WARM:
        status = warm_client.run(command, owner)
        if status is not None:
            return status
    several = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(gpus)] if gpus > 1 else []
    return supervise([sys.executable, *several, "-m", "bevkd", *command], owner)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
