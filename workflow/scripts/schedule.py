"""When the jobs of a plan would end, by their estimated costs: Snakemake's greedy scheduler without the jobs."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Hashable, Mapping
from dataclasses import dataclass
from typing import TypeVar

J = TypeVar("J", bound=Hashable)


@dataclass(frozen=True)
class Planned:
    """A job of a plan.

    Attributes:
        seconds: of CPU time, shared evenly by its threads.
        threads: cores that it wants; where there are fewer, it takes all.
        priority: of those that could start, the highest does.
        waits_for: jobs that must have ended before.
    """

    seconds: float
    threads: int = 1
    priority: float = 0.0
    waits_for: Collection[Hashable] = ()


def ends(jobs: Mapping[J, Planned], cores: int) -> dict[J, float]:
    """Seconds after the start at which each job has ended.

    Of the jobs that could start, those with the highest priority do; one that wants more cores than are free lets
    others go first, as Snakemake's greedy scheduler has it.

    Raises:
        ValueError: jobs wait for each other.
    """
    waiting = {job: {other for other in planned.waits_for if other in jobs} for job, planned in jobs.items()}
    followers: dict[Hashable, list[J]] = {}
    for job, others in waiting.items():
        for other in others:
            followers.setdefault(other, []).append(job)
    place = {job: number for number, job in enumerate(jobs)}
    ready = [(-jobs[job].priority, place[job], job) for job, others in waiting.items() if not others]
    heapq.heapify(ready)
    running: list[tuple[float, int, J]] = []
    out: dict[J, float] = {}
    now, free = 0.0, cores
    while ready or running:
        passed = []
        while ready and free:
            entry = heapq.heappop(ready)
            threads = min(jobs[entry[2]].threads, cores)
            if threads > free:
                passed.append(entry)
                continue
            free -= threads
            heapq.heappush(running, (now + jobs[entry[2]].seconds / threads, entry[1], entry[2]))
        for entry in passed:
            heapq.heappush(ready, entry)
        now, _, job = heapq.heappop(running)
        out[job] = now
        free += min(jobs[job].threads, cores)
        for follower in followers.get(job, ()):
            waiting[follower].discard(job)
            if not waiting[follower]:
                heapq.heappush(ready, (-jobs[follower].priority, place[follower], follower))
    if len(out) < len(jobs):
        raise ValueError("jobs wait for each other")
    return out
