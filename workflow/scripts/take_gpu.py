"""Run a command on free GPUs of this machine, waiting until there are enough.

usage: take_gpu.py COUNT -- COMMAND ...

Each GPU is one lock file; locks go with the process, so that a killed job frees its GPUs.
"""

from __future__ import annotations

import fcntl
import os
import sys
import tempfile
import time
from pathlib import Path


def devices() -> list[str]:
    """Names of the GPUs that this process may use."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [part.strip() for part in visible.split(",") if part.strip()]
    return sorted(p.name.removeprefix("nvidia") for p in Path("/dev").glob("nvidia[0-9]*") if p.name[6:].isdigit())


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


def main(arguments: list[str]) -> int:
    """Take GPUs and become the command; returns only when the usage is wrong."""
    count, separator, *command = arguments
    if separator != "--" or not command:
        print("usage: take_gpu.py COUNT -- COMMAND ...", file=sys.stderr)
        return 2
    folder = Path(tempfile.gettempdir()) / f"bevkd-gpus-{os.getuid()}"
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(take(int(count), devices(), folder))
    os.execvp(command[0], command)  # the locks, being inheritable, stay with the command until it ends


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
