"""`python train_process.py RUN.json OUT`: one training process that tests can kill, signal, or start under torchrun."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from bevkd.config import RunConfig, parse, to_plain
from bevkd.errors import BevkdError
from bevkd.train import train

REPOSITORY = Path(__file__).resolve().parents[2]


def start(
    run: RunConfig, out: Path, launcher: list[str] | None = None, *, group: bool = False
) -> subprocess.Popen[bytes]:
    """Train in a process of its own, or in a `group` of processes of its own."""
    out.mkdir(parents=True, exist_ok=True)
    config = out.parent / f"{out.name}.json"
    config.write_text(json.dumps(to_plain(run)))
    variables = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, *(launcher or []), __file__, str(config), str(out)]
    return subprocess.Popen(
        command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=group
    )


def finish(process: subprocess.Popen[bytes], timeout: float = 240) -> tuple[int, str]:
    """Exit code and output."""
    text, _ = process.communicate(timeout=timeout)
    return process.returncode, text.decode(errors="replace")


def train_on_two(run: RunConfig, out: Path) -> None:
    """Train a run on two processes of this machine."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    launcher = ["-m", "torch.distributed.run", "--nproc_per_node=2", "--master_addr=127.0.0.1", f"--master_port={port}"]
    code, text = finish(start(run, out, launcher))
    assert code == 0, text


def main(arguments: list[str]) -> int:
    plain: Any = json.loads(Path(arguments[0]).read_text())
    try:
        train(parse(RunConfig, plain, arguments[0]), Path(arguments[1]))
    except BevkdError as error:
        print(f"{type(error).__name__}: {error}")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
