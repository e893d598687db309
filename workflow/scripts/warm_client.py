"""The side of a job: have its command run in a fork of the warm process (`warm.py`) of its workflow."""

from __future__ import annotations

import array
import fcntl
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from processes import LENGTH, alive, socket_path

_SERVER = Path(__file__).with_name("warm.py")
_PATIENCE = 60.0  # seconds until a server that does not answer is given up


def run(command: list[str], workflow: int) -> int | None:
    """Run `bevkd COMMAND` in a fork of the workflow's server, which is started if there is none.

    Returns:
        Its exit status; None if no server could be reached or started, and nothing has run.
    """
    try:
        connection = _connect(socket_path(workflow), workflow)
    except OSError:
        return None
    with connection:
        request = json.dumps({"command": command, "folder": os.getcwd(), "environment": dict(os.environ)}).encode()
        streams = array.array("i", [0, 1, 2]).tobytes()
        connection.settimeout(_PATIENCE)
        try:
            header = len(request).to_bytes(LENGTH, "big")
            connection.sendmsg([header], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, streams)])
            connection.sendall(request)
            if connection.recv(1) != b"+":
                return None
        except OSError:
            return None
        connection.settimeout(None)
        return _wait(connection, workflow)


def _wait(connection: socket.socket, workflow: int) -> int:
    """Pass signals on to the job until it says how it ended."""

    def forward(number: int, _frame: object) -> None:
        with suppress(OSError):  # it ended just now
            connection.send(bytes([number]))

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, forward)
    asked = False
    while True:
        ready, _, _ = select.select([connection], [], [], 0.5)
        if ready:
            try:
                answer = connection.recv(1)
            except ConnectionError:
                answer = b""
            return answer[0] if answer else 128 + signal.SIGKILL  # without a word: killed
        if not asked and not alive(workflow):
            print("the workflow is gone: stopping", file=sys.stderr, flush=True)
            forward(signal.SIGTERM, None)
            asked = True


def _connect(path: Path, workflow: int) -> socket.socket:
    """A connection to the server, which the first of several clients starts.

    Raises:
        OSError: there is no server to be had.
    """
    with suppress(OSError):
        return _dial(path)
    # One lock for all workflows, never removed: who waits for it and who makes it anew would not see each other.
    with open(path.with_name("start.lock"), "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with suppress(OSError):
            return _dial(path)
        failed = path.with_suffix(".failed")
        if failed.exists():
            raise OSError("the server did not start before")
        path.unlink(missing_ok=True)
        with open(path.with_suffix(".log"), "w", encoding="utf-8") as log:
            server = subprocess.Popen(
                [sys.executable, str(_SERVER), str(path), str(workflow)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        while server.poll() is None and alive(workflow):
            if path.exists():
                try:
                    return _dial(path)
                except OSError:
                    server.kill()
                    break
            time.sleep(0.05)
        # Once is enough: each attempt loads all libraries, and the other jobs of the workflow wait.
        failed.touch()
        print(f"jobs start cold: no warm process, see {path.with_suffix('.log')}", file=sys.stderr)
    raise OSError("the server did not start")


def _dial(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(str(path))
    except OSError:
        connection.close()
        raise
    return connection
