"""What every simulated data set needs: a folder that appears only when it is complete, and processes for the scenes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from bevkd import progress
from bevkd.errors import ConfigError
from bevkd.io import atomic_folder
from bevkd.processes import process_pool

Job = TypeVar("Job")
Result = TypeVar("Result")

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@contextmanager
def fresh_root(out: Path, workers: int) -> Iterator[Path]:
    """A temporary folder beside `out` that becomes `out` when the block succeeds, and disappears when it does not.

    Raises:
        ConfigError: `out` exists and is not an empty folder, another process is writing it, or there is no worker.
        DataError: the system refuses to write.
    """
    if workers < 1:
        raise ConfigError(f"workers must be at least 1, got {workers}")
    with atomic_folder(Path(out).absolute(), replace=False, flush=False) as temporary:
        yield temporary


@contextmanager
def _single_threaded() -> Iterator[None]:
    """Worker processes start with one thread each; they share the cores among themselves."""
    before = {name: os.environ.get(name) for name in _THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(_THREAD_VARIABLES, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def run_jobs(work: Callable[[Job], Result], jobs: Sequence[Job], workers: int, unit: str = "scenes") -> list[Result]:
    """The results of all jobs, in their order, whatever the number of processes; `unit` is what a job makes."""
    if workers == 1:
        return list(progress.track(map(work, jobs), "simulating", len(jobs), unit))
    # Scene by scene: handing one out costs nothing beside making it, and a bar moves with each.
    with _single_threaded(), process_pool(min(workers, len(jobs))) as pool:
        return list(progress.track(pool.map(work, jobs), "simulating", len(jobs), unit))
