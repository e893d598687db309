"""Run `bevkd` as a job of the workflow: one thread per process, and GPUs that no other job is using.

usage: launch.py GPUS COMMAND ...       e.g. launch.py 1 train --run lidar_base

With no GPU it becomes `python -m bevkd COMMAND`. On a workstation it waits until so many are free: each is one lock
file, and locks go with the process, so that a killed job frees its GPUs. With more than one, `torchrun` starts a
process for each. A cluster hands out GPUs itself (CUDA_VISIBLE_DEVICES); locks are per machine and do no harm there.
"""

from __future__ import annotations

import fcntl
import os
import re
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path


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
                    os.set_inheritable(handle, True)
                return list(held)
        for handle in held.values():  # all or none, or two waiting jobs could hold what the other needs
            os.close(handle)
        time.sleep(1.0)


def prepare_environment() -> None:
    """What jobs inherit: `python` is this interpreter unless conda provides another, and one thread per process."""
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    os.environ["OMP_NUM_THREADS"] = "1"


def main(arguments: list[str]) -> int:
    """Become the command; returns only when the usage is wrong."""
    if len(arguments) < 2 or not arguments[0].isdigit():
        print("usage: launch.py GPUS COMMAND ...", file=sys.stderr)
        return 2
    gpus, command = int(arguments[0]), ["-m", "bevkd", "-v", *arguments[1:]]
    # Snakemake sets these to the threads of the rule, but workers are processes: each would start so many threads.
    for name in ("OMP", "OPENBLAS", "MKL"):
        os.environ[f"{name}_NUM_THREADS"] = "1"
    if gpus > 0:
        folder = Path(tempfile.gettempdir()) / f"bevkd-gpus-{os.getuid()}"
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(take(gpus, devices(), folder))
    if gpus > 1:
        command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(gpus), *command]
    os.execv(sys.executable, [sys.executable, *command])  # the locks, being inheritable, last as long as the command
    raise AssertionError("unreachable")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
