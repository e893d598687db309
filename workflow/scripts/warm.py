"""Start `bevkd` from a process that has its libraries loaded: jobs of a few seconds stop paying for imports.

Importing torch, transformers and lightning-fabric takes longer than many jobs of the simulated scales compute, and a
workflow has hundreds of them. One process per workflow imports them once and forks for every job. It touches neither
data nor random numbers nor CUDA before it forks, so a forked job computes what a new process would.

A client (`run`, called by `launch.py`) sends command, folder, environment and its three standard streams over a local
socket; the forked job keeps that connection. Through it come signals, and its end tells the job that its client is
gone. The server ends with the workflow that owns it. Anything that goes wrong before the fork means: start cold.

usage: warm.py SOCKET WORKFLOW_PID     (started by the first client)
"""

from __future__ import annotations

import array
import fcntl
import gc
import hashlib
import json
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path

WARM = "BEVKD_WARM"  # "1" in the jobs of the main process of a workflow; "0" set by the user switches it off
_LENGTH = 8
# What commands import when they run, and what these import in turn at first use.
_PRELOAD = (
    "bevkd.train",
    "bevkd.distill",
    "bevkd.eval.nuscenes",
    "bevkd.report.html",
    "bevkd.report.fill",
    "lightning_fabric.loggers",
    "transformers.models.resnet.modeling_resnet",
    "transformers.models.swin.modeling_swin",
)
_PATH_LIMIT = 100  # bytes; the kernel takes 107
_PATIENCE = 60.0  # seconds until a server that does not answer is given up


def folder() -> Path:
    """A folder for sockets that belongs to this user alone.

    Raises:
        OSError: somebody else made it, or may look into it.
    """
    path = Path(tempfile.gettempdir()) / f"bevkd-warm-{os.getuid()}"
    path.mkdir(mode=0o700, exist_ok=True)
    status = path.lstat()
    if status.st_uid != os.getuid() or status.st_mode & 0o077 or path.is_symlink():
        raise OSError(f"{path} is not private")
    return path


def socket_path(workflow: int) -> Path:
    """Socket of the server of one workflow, interpreter and code base.

    Raises:
        OSError: as `folder`; or the path is too long for a socket.
    """
    # Containers may share a temporary folder and number their processes alike.
    space = Path("/proc/self/ns/pid")
    parts = [sys.executable, os.getcwd(), os.uname().nodename, str(space.stat().st_ino if space.exists() else 0)]
    path = folder() / f"{workflow}-{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()[:12]}.sock"
    if len(os.fsencode(path)) > _PATH_LIMIT:
        raise OSError(f"{path} is too long for a socket")
    return path


# --- the client ---------------------------------------------------------------------------------------------------


def run(command: list[str], workflow: int, alive: Callable[[int], bool]) -> int | None:
    """Run `bevkd COMMAND` in a fork of the workflow's server, which is started if there is none.

    Returns:
        Its exit status; None if no server could be reached or started, and nothing has run.
    """
    try:
        connection = _connect(socket_path(workflow), workflow, alive)
    except OSError:
        return None
    with connection:
        request = json.dumps({"command": command, "folder": os.getcwd(), "environment": dict(os.environ)}).encode()
        streams = array.array("i", [0, 1, 2]).tobytes()
        connection.settimeout(_PATIENCE)
        try:
            header = len(request).to_bytes(_LENGTH, "big")
            connection.sendmsg([header], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, streams)])
            connection.sendall(request)
            if connection.recv(1) != b"+":
                return None
        except OSError:
            return None
        connection.settimeout(None)
        return _wait(connection, workflow, alive)


def _wait(connection: socket.socket, workflow: int, alive: Callable[[int], bool]) -> int:
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


def _connect(path: Path, workflow: int, alive: Callable[[int], bool]) -> socket.socket:
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
                [sys.executable, __file__, str(path), str(workflow)],
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


# --- the server ---------------------------------------------------------------------------------------------------


def serve(path: Path, workflow: int, alive: Callable[[int], bool]) -> socket.socket | None:
    """Fork a child for every client until the workflow is gone.

    Returns:
        In the server: None, at its end. In each child: the connection to its client.
    """
    server = os.getpid()
    hidden = path.with_suffix(f".{server}")  # bound, but found only when it listens
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(hidden))
        listener.listen(64)
        hidden.rename(path)
        gc.collect()
        gc.freeze()
        try:
            while alive(workflow):
                _reap()
                ready, _, _ = select.select([listener], [], [], 0.5)
                if not ready:
                    continue
                connection, _ = listener.accept()
                with connection:
                    try:
                        child = os.fork()
                    except OSError:  # no memory or processes left: this job starts cold, if it can
                        continue
                    if child == 0:
                        listener.close()
                        return connection.dup()
        finally:
            if os.getpid() == server:
                for end in (".sock", ".log", ".failed"):
                    path.with_suffix(end).unlink(missing_ok=True)
    return None


def _reap() -> None:
    """Forget children that ended; each has told its own client."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def _receive(connection: socket.socket, imported: dict[str, str]) -> list[str]:
    """In a child: take over streams, folder and environment of the client; its command.

    Args:
        connection: to the client.
        imported: variables that imports have set in the server, as they would in the job.
    """
    streams = array.array("i")
    size = 3 * streams.itemsize
    header, ancillary, _, _ = connection.recvmsg(_LENGTH, socket.CMSG_SPACE(size))
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            streams.frombytes(data[:size])
    if len(header) != _LENGTH or len(streams) != 3:
        raise OSError("not a request")
    left, parts = int.from_bytes(header, "big"), []
    while left:
        part = connection.recv(min(left, 1 << 16))
        if not part:
            raise OSError("the request ends early")
        parts.append(part)
        left -= len(part)
    request = json.loads(b"".join(parts))
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(imported | request["environment"])
    connection.send(b"+")
    return [str(part) for part in request["command"]]


def _watch(connection: socket.socket) -> None:
    """In a child: signals from the client; its end counts as SIGTERM, upon which a training writes a checkpoint."""
    while True:
        try:
            number = connection.recv(1)
        except OSError:
            return
        os.kill(os.getpid(), number[0] if number else signal.SIGTERM)
        if not number:
            return


def main(arguments: list[str]) -> int:
    """The server; in its children, a run of the command line."""
    from launch import alive

    sys.path.insert(0, os.getcwd())
    before = dict(os.environ)
    for name in _PRELOAD:
        import_module(name)
    from bevkd.cli import main as command_line

    imported = {name: value for name, value in os.environ.items() if before.get(name) != value}
    connection = serve(Path(arguments[0]), int(arguments[1]), alive)
    if connection is None:
        return 0
    command = _receive(connection, imported)
    threading.Thread(target=_watch, args=(connection,), daemon=True).start()
    sys.argv = ["bevkd", *command]
    try:
        status = command_line(command)
    except BaseException:  # also what the command line shows with a traceback: the client must hear of an end
        traceback.print_exc()
        status = 1
    with suppress(OSError):  # the log may be full, the client gone
        # What Snakemake's benchmark files say of memory and CPU time belongs to the client; here is the job's own.
        used = resource.getrusage(resource.RUSAGE_SELF)
        print(
            f"CPU time {used.ru_utime + used.ru_stime:.1f} s, peak memory {used.ru_maxrss >> 10} MiB", file=sys.stderr
        )
        sys.stdout.flush()
        sys.stderr.flush()
    with suppress(OSError):
        connection.send(bytes([status & 255]))
    # Not by way of the interpreter's end: exit handlers belong to the server, whose temporary files others still use,
    # and the client's end would count as a signal.
    os._exit(status & 255)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
