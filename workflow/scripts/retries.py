"""Which failed jobs are worth another try: those that crashed, not those that bad data or bad usage ended.

Snakemake has a number of retries per rule, whatever a job failed of. A job that would fail of the same thing again says
so in the last line of its log (`launch.py`), which the workflow reads before it counts the tries.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

HOPELESS = (2, 3)  # exit codes of bevkd: bad usage or configuration, bad data
LAST_LINE = "not tried again: the same data and settings would end the same way"
_TAIL = 1000  # bytes of a log's end that hold its last line


def is_hopeless(logs: Iterable[object]) -> bool:
    """Whether one of the logs of a job ends with the word that another try is of no use."""
    for log in map(Path, map(str, logs)):
        if log.exists():
            with log.open("rb") as stream:
                stream.seek(max(0, log.stat().st_size - _TAIL))
                lines = stream.read().decode(errors="replace").splitlines()
            if lines and lines[-1] == LAST_LINE:
                return True
    return False


def retry_only_crashes(scheduler: Any) -> None:
    """Have a scheduler give up jobs that are hopeless; other versions of Snakemake may not let us, and retry them."""
    before: Callable[..., None] | None = getattr(scheduler, "_handle_error", None)
    if before is None:
        return

    def handle(job: Any, *arguments: Any, **named: Any) -> None:
        # Called with the scheduler's lock held, so that no other job of the rule sees the number.
        rule = None if job.is_group() or not is_hopeless(job.log) else job.rule
        if rule is None:
            before(job, *arguments, **named)
            return
        kept, rule.restart_times = rule.restart_times, 0
        try:
            before(job, *arguments, **named)
        finally:
            rule.restart_times = kept

    scheduler._handle_error = handle
