"""Worker processes that do not outlive what started them, nor the wish for what they do."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait


@contextmanager
def process_pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Processes that are spawned, because the caller may have threads.

    They end when the caller is killed, and in the middle of a job when the block is left by an error or by Ctrl-C,
    which they leave to the caller: else each would print a traceback.
    """
    context = multiprocessing.get_context("spawn")
    theirs, ours = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_end_with_parent, initargs=(theirs,))
    try:
        with _not_interrupted():
            pool.submit(os.getpid)  # the first job starts all of them
        yield pool
    except BaseException:
        ours.close()  # what they work on now is for nobody
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        ours.close()
        theirs.close()


@contextmanager
def _not_interrupted() -> Iterator[None]:
    """Processes that are started here ignore Ctrl-C."""
    if threading.current_thread() is not threading.main_thread():  # signals are the main thread's
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _end_with_parent(wanted: Connection) -> None:
    """End this process with its parent, or when the other end of a pipe is closed.

    A worker waits for jobs on another pipe, which its siblings hold open as well, so that it would notice neither.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None
    sentinel = parent.sentinel

    def watch() -> None:
        wait([sentinel, wanted])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
