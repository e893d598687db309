"""What every simulated data set needs: a folder that appears only when it is complete, and processes for the scenes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from bevkd import progress
from bevkd.errors import ConfigError
from bevkd.io import writing
from bevkd.processes import process_pool

Job = TypeVar("Job")
Result = TypeVar("Result")

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@contextmanager
def fresh_root(out: Path, workers: int) -> Iterator[Path]:
    """A temporary folder beside `out` that becomes `out` when the block succeeds, and disappears when it does not.

    Raises:
        ConfigError: `out` exists and is not an empty folder, or there is no worker.
        DataError: the system refuses to write.
    """
    out = Path(out).absolute()
    if workers < 1:
        raise ConfigError(f"workers must be at least 1, got {workers}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out} exists and is not an empty folder")
    temporary = out.parent / f".{out.name}.tmp"
    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(temporary, ignore_errors=True)  # left behind by a killed run
        try:
            yield temporary
            os.replace(temporary, out)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


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
    with _single_threaded(), process_pool(min(workers, len(jobs))) as pool:
        results = pool.map(work, jobs, chunksize=max(1, min(8, len(jobs) // (4 * workers))))
        return list(progress.track(results, "simulating", len(jobs), unit))
