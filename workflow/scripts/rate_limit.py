"""Snakemake's limit of job starts per second, and why this workflow goes without it.

In Snakemake 9.27.1 (`JobScheduler.schedule`) each pass of the main loop that looks for jobs to start also starts a
timer of one second that causes another pass, and the end of each job causes one more: passes become more with every job
that has ended, so that Snakemake's own CPU time grows with the square of the number of jobs. The limit cannot be
switched off on the command line; with a longer span the timers outlive the last job, and the process waits for them.
"""

from __future__ import annotations


def end_rate_limit(scheduler: object) -> None:
    """Take the limit off a scheduler that has one; other versions of Snakemake may not."""
    if getattr(scheduler, "job_rate_limiter", None) is not None:
        scheduler.job_rate_limiter = None  # type: ignore[attr-defined]
