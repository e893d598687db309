"""Worker processes that do not outlive what started them, and leave it to that to speak of Ctrl-C."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")


@contextmanager
def process_pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Processes that are spawned, because the caller may have threads, and that end when the caller is killed.

    When the block ends with an error or Ctrl-C, jobs that have not begun are dropped.
    """
    context = multiprocessing.get_context("spawn")
    with _Pool(workers, mp_context=context, initializer=_end_with_parent) as pool:
        try:
            yield pool
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


class _Pool(ProcessPoolExecutor):
    """Workers hear of Ctrl-C, which a terminal sends to everybody, only while they work on a job."""

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Hand out a job; this may start a process."""
        with _not_interrupted():
            return super().submit(_interruptible, fn, *args, **kwargs)


def _interruptible(job: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """A process that waits for a job would print a traceback; one that ends amid an answer is waited for for ever."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return job(*args, **kwargs)
    finally:
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


def _end_with_parent() -> None:
    """A worker waits for jobs on a pipe that its siblings hold open as well, so that none would notice."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
