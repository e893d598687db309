"""Worker processes that do not outlive what started them, nor the wish for what they do."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

J = TypeVar("J")
T = TypeVar("T")
_AGAIN = 0.1  # seconds


@contextmanager
def process_pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Processes that are spawned, because the caller may have threads.

    They end when the caller is killed. When the block is left by an error or by Ctrl-C, jobs that have not begun are
    dropped, and those that have end in the middle.
    """
    context = multiprocessing.get_context("spawn")
    theirs, ours = context.Pipe(duplex=False)
    pool = _Pool(workers, mp_context=context, initializer=_listen, initargs=(theirs,))
    try:
        yield pool
    except BaseException:
        ours.close()  # what they work on now is for nobody
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        ours.close()
        theirs.close()


def mapped(task: Callable[[J], T], jobs: Sequence[J], workers: int) -> Iterator[T]:
    """What a task makes of each job, in their order; in this process where there is one worker, or one job."""
    if workers <= 1 or len(jobs) <= 1:
        yield from map(task, jobs)
        return
    with process_pool(min(workers, len(jobs))) as pool:
        yield from pool.map(task, jobs)


class _Pool(ProcessPoolExecutor):
    """Workers hear of Ctrl-C, which a terminal sends to everybody, only while they work on a job."""

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Hand out a job; this may start processes."""
        with _not_interrupted():
            return super().submit(_interruptible, fn, *args, **kwargs)


def _interruptible(job: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """A process that waits for a job would print a traceback; one that ends amid an answer is waited for for ever."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return job(*args, **kwargs)
    finally:
        while signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
            with suppress(KeyboardInterrupt):
                signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def _not_interrupted() -> Iterator[None]:
    """Processes that are started here begin deaf to Ctrl-C."""
    if threading.current_thread() is not threading.main_thread():  # signals are the main thread's
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _listen(wanted: Connection) -> None:
    """End this process with its parent, and its job when the other end of a pipe is closed.

    A worker waits for jobs on another pipe, which its siblings hold open as well, so that it would notice neither.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None
    sentinel, main = parent.sentinel, threading.main_thread().ident
    assert main is not None

    def watch() -> None:
        ended = sentinel in wait([sentinel, wanted])
        while not ended:
            signal.pthread_kill(main, signal.SIGINT)  # heard during a job only
            ended = bool(wait([sentinel], timeout=_AGAIN))
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
