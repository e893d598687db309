"""How far a plan is: what its jobs cost, what is left of them, and which table comes next."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

TRUST = 0.02  # of the whole plan: so much must be done before its own pace counts as much as the estimate
NEARLY = 0.95  # a running job counts for no more than this part of itself, however long it takes


@dataclass(frozen=True)
class Work:
    """A job that has to run.

    Attributes:
        what: the rule, such as `train`.
        which: of what, such as `lidar_base seed 0`.
        seconds: estimated CPU seconds.
        makes: the file that a user looks at, or "".
    """

    what: str
    which: str
    seconds: float
    makes: str = ""


@dataclass
class Progress:
    """What is done of a plan, by job number.

    Attributes:
        work: jobs to do.
        tables: tables and figures to come, in the order in which they should stand, with all jobs that they wait for.
        cores: how many jobs run at a time.
        clock: seconds since some moment.
    """

    work: Mapping[int, Work]
    tables: Mapping[int, Collection[int]] = field(default_factory=dict)
    cores: int = 1
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self.began = self.clock()
        self.running: dict[int, float] = {}
        self.done: set[int] = set()
        # Costs that are not known count alike, so that the bar moves with the number of jobs.
        known = any(work.seconds > 0 for work in self.work.values())
        self.cost = {job: work.seconds if known else 1.0 for job, work in self.work.items()}
        self.known = known
        self.total = sum(self.cost.values())

    def start(self, job: int) -> None:
        """A job begins."""
        if job in self.work:
            self.running[job] = self.clock()

    def stop(self, job: int) -> None:
        """A job ended without having done its work."""
        self.running.pop(job, None)

    def finish(self, job: int) -> float:
        """A job is done; the seconds that it took."""
        began = self.running.pop(job, None)
        if job in self.work:
            self.done.add(job)
        return 0.0 if began is None else self.clock() - began

    def pace(self) -> float:
        """Seconds of the clock per estimated second of a core: the plan's own, at first the estimate's."""
        trusted = TRUST * self.total / self.cores
        return (self.clock() - self.began + trusted) / (self._spent(1.0) / self.cores + trusted) if trusted else 1.0

    def share(self) -> float:
        """How much is done, from 0 to 1, by cost."""
        return min(self._spent(self.pace()) / self.total, 1.0) if self.total else 1.0

    def left(self, jobs: Iterable[int] | None = None) -> float | None:
        """Seconds until some jobs are done, or all; None where nothing is known of costs."""
        if not self.known:
            return None
        pace = self.pace()
        todo = [job for job in (self.cost if jobs is None else jobs) if job in self.cost and job not in self.done]
        cost = sum(self.cost[job] - self._credit(job, pace) for job in todo)
        # One job alone takes its time on one core.
        longest = max((self.cost[job] - self._credit(job, pace) for job in todo), default=0.0)
        return pace * max(cost / self.cores, longest)

    def coming(self) -> int | None:
        """The next table or figure; None when all are made."""
        return next((job for job in self.tables if job not in self.done), None)

    def _spent(self, pace: float) -> float:
        return sum(self.cost[job] for job in self.done) + sum(self._credit(job, pace) for job in self.running)

    def _credit(self, job: int, pace: float) -> float:
        """What a running job has done of its cost."""
        if job not in self.running:
            return 0.0
        return min((self.clock() - self.running[job]) / pace, NEARLY * self.cost[job]) if pace > 0 else 0.0


def time_text(seconds: float) -> str:
    """`8 s`, `4 min 10 s`, `1 h 45 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 600:
        return f"{whole // 60} min {whole % 60} s"
    minutes = round(whole / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
