"""Start `bevkd` from a process that has its libraries loaded: jobs of a few seconds stop paying for imports.

Importing torch, transformers and lightning-fabric takes longer than many jobs of the simulated scales compute, and a
workflow has hundreds of them. One process per workflow imports them once and forks for every job. It touches neither
data nor random numbers nor CUDA before it forks, so a forked job computes what a new process would.

A client (`warm_client.py`, called by `launch.py`) sends command, folder, environment and its three standard streams
over a local socket; the forked job keeps that connection. Through it come signals, and its end tells the job that its
client is gone. The server ends with the workflow that owns it. Anything that goes wrong before the fork means: start
cold.

usage: warm.py SOCKET WORKFLOW_PID     (started by the first client)
"""

from __future__ import annotations

import array
import gc
import json
import os
import pkgutil
import resource
import select
import signal
import socket
import sys
import threading
import traceback
from contextlib import suppress
from importlib import import_module
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # also where Python does not do so itself (PYTHONSAFEPATH)
from processes import LENGTH, alive

# What the modules of bevkd import when they run, and what libraries import at first use.
_PRELOAD = (
    "lightning_fabric.loggers",
    "matplotlib.backends.backend_agg",
    "matplotlib.backends.backend_pdf",
    "pandas",
    "PIL.BmpImagePlugin",
    "PIL.JpegImagePlugin",
    "pyarrow.dataset",
    "pyarrow.pandas_compat",
    "rich.progress",
    "scipy.stats",
    "torch.utils.serialization",
    "torch.utils.tensorboard",
    "transformers.models.resnet.modeling_resnet",
    "transformers.models.swin.modeling_swin",
    "typer.main",
)


def preload() -> None:
    """Import every module of bevkd, and what they do not import by themselves."""
    package = import_module("bevkd")
    for module in pkgutil.walk_packages(package.__path__, "bevkd."):
        if not module.name.endswith(".__main__"):  # it runs the command line
            import_module(module.name)
    for name in _PRELOAD:
        import_module(name)


def serve(path: Path, workflow: int) -> socket.socket | None:
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
    header, ancillary, _, _ = connection.recvmsg(LENGTH, socket.CMSG_SPACE(size))
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            streams.frombytes(data[:size])
    if len(header) != LENGTH or len(streams) != 3:
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
    sys.path.insert(0, os.getcwd())
    before = dict(os.environ)
    preload()
    from bevkd.cli import main as command_line

    imported = {name: value for name, value in os.environ.items() if before.get(name) != value}
    connection = serve(Path(arguments[0]), int(arguments[1]))
    if connection is None:
        return 0
    command = _receive(connection, imported)
    # Processes that the job forks in turn must not keep its end from the client.
    os.register_at_fork(after_in_child=connection.close)
    threading.Thread(target=_watch, args=(connection,), daemon=True).start()
    sys.argv = ["bevkd", *command]
    try:
        status = command_line(command)
    except BaseException:  # also what the command line shows with a traceback: the client must hear of an end
        traceback.print_exc()
        status = 1
    with suppress(OSError):  # the log may be full, the client gone
        # What Snakemake's benchmark files say of memory and CPU time belongs to the client; here is the job's own, with
        # that of its processes. `benchmarks/costs.py` reads it.
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        seconds, peak = sum(one.ru_utime + one.ru_stime for one in used), max(one.ru_maxrss for one in used)
        print(f"CPU time {seconds:.1f} s, peak memory {peak >> 10} MiB", file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
    with suppress(OSError):
        connection.send(bytes([status & 255]))
    # Not by way of the interpreter's end: exit handlers belong to the server, whose temporary files others still use,
    # and the client's end would count as a signal.
    os._exit(status & 255)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
