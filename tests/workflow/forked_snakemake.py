"""Snakemake in forks of a process that has imported it: a second of imports less for each of some two hundred calls.

What is forked has loaded libraries, and nothing of this project: the code and configuration of the folder that it is
called in are read anew. Run as a program this is the process that forks; `Forked` starts it and asks it.
"""

from __future__ import annotations

import json
import os
import runpy
import select
import signal
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import IO

PROGRAM = Path(sys.executable).with_name("snakemake")


class Forked:
    """Asks for runs of Snakemake, one after the other."""

    def __init__(self) -> None:
        environment = os.environ | {"OMP_NUM_THREADS": "1"}  # threads would not outlive a fork
        command = [sys.executable, __file__]
        # Nothing is read ahead, so that `select` sees what is not read yet.
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, env=environment
        )

    def run(self, folder: Path, arguments: list[str], env: dict[str, str], out: Path, timeout: float) -> int:
        """The exit status of Snakemake in a folder, whose output goes to a file.

        Raises:
            TimeoutExpired: it took longer; it is killed.
        """
        asked, answers = self._process.stdin, self._process.stdout
        assert asked is not None
        assert answers is not None
        request = {"arguments": arguments, "folder": str(folder), "env": env, "out": str(out)}
        asked.write(json.dumps(request).encode() + b"\n")
        child = int(answers.readline())
        ended = False
        try:
            ended = bool(select.select([answers], [], [], timeout)[0])
        finally:  # also where a test's own time is up
            if not ended:
                os.kill(child, signal.SIGKILL)
            status = int(answers.readline())
        if not ended:
            raise subprocess.TimeoutExpired([str(PROGRAM), *arguments], timeout)
        return status

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def become(asked: dict[str, str | list[str] | dict[str, str]]) -> None:
    """Turn this process into what a shell would have started."""
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    out = os.open(str(asked["out"]), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(out, 1)
    os.dup2(out, 2)
    os.chdir(str(asked["folder"]))
    os.environ.clear()
    os.environ.update(asked["env"])  # type: ignore[arg-type]
    sys.argv = [str(PROGRAM), *asked["arguments"]]
    sys.path[0] = str(PROGRAM.parent)


def serve(asked: IO[str], answers: IO[str]) -> bool:
    """Fork for each request; true in a fork, which has what is asked of it to do yet, and false at the end."""
    for line in iter(asked.readline, ""):
        child = os.fork()
        if child == 0:
            become(json.loads(line))
            return True
        print(child, file=answers, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), file=answers, flush=True)
    return False


def preload() -> None:
    """Import Snakemake and what it imports late."""
    for name in ("cli", "persistence", "report"):
        import_module(f"snakemake.{name}")
    for name in ("jinja2", "pandas", "pydantic.dataclasses", "requests", "smart_open"):
        import_module(name)


if __name__ == "__main__":
    preload()
    if serve(sys.stdin, os.fdopen(os.dup(1), "w")):
        runpy.run_path(str(PROGRAM), run_name="__main__")
