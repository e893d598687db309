"""Workers end with the process that started them, however that ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import os, signal, time
from bevkd.processes import process_pool

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever started the tests may ignore it
    with process_pool(2) as pool:
        first = pool.submit(os.getpid).result()
        slow = pool.submit(time.sleep, 600)
        print(*pool._processes, flush=True)
        slow.result()
"""


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at /proc")
@pytest.mark.parametrize("how", ["Ctrl-C", "asked", "killed"])
def test_workers_end_with_their_parent_in_the_middle_of_a_job(tmp_path: Path, how: str) -> None:
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([sys.executable, str(script)], env=env, text=True, start_new_session=True, **pipes) as parent:
        assert parent.stdout is not None
        workers = [int(pid) for pid in parent.stdout.readline().split()]
        assert workers
        assert all(map(alive, workers))
        if how != "killed":
            # A terminal sends it to everybody, another program to one.
            (os.killpg if how == "Ctrl-C" else os.kill)(parent.pid, signal.SIGINT)
            assert parent.wait(60) != 0
            assert parent.stderr is not None
            assert parent.stderr.read().count("Traceback") == 1, "that of the caller; workers are silent"
        else:
            parent.kill()
    deadline = time.monotonic() + 60
    while any(map(alive, workers)):
        assert time.monotonic() < deadline, "a worker outlives its parent"
        time.sleep(0.05)


INTERRUPTED = """
import time
from bevkd.processes import process_pool

if __name__ == "__main__":
    try:
        with process_pool(2) as pool:
            pool.submit(len, "").result()
            slow = [pool.submit(time.sleep, 600) for _ in range(8)]
            print("begun", flush=True)
            slow[0].result()
    except KeyboardInterrupt:
        print("interrupted", flush=True)
"""


@pytest.mark.parametrize("wait_s", [0.0, 2.0])  # workers that start, and workers at work
def test_ctrl_c_ends_workers_without_a_word(tmp_path: Path, wait_s: float) -> None:
    script = tmp_path / "program.py"
    script.write_text(INTERRUPTED)
    with subprocess.Popen(
        [sys.executable, str(script)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "begun\n"
        time.sleep(wait_s)
        began = time.monotonic()
        while parent.poll() is None and time.monotonic() - began < 60:
            os.killpg(parent.pid, signal.SIGINT)
            time.sleep(1.0)
        assert parent.stdout.read() == "interrupted\n"
    assert parent.returncode == 0
