"""What a user sees of a running workflow: a line per job, a bar by cost, and the table to come next.

A handler of Snakemake's log events (`snakemake_interface_logger_plugins`). It takes the place of Snakemake's own text,
which goes on in its log file, when BEVKD_CONSOLE is 1 (as `make` sets it), or when it is not set and a person looks on.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

import psutil
from progress import Progress, time_text
from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent

PATIENCE = 5.0  # seconds until jobs that go on after Ctrl-C are asked to stop
GRACE = 1.0  # seconds in which Ctrl-C may still be heard, of which a job has ended already
TAIL = 15  # lines of a failed job's log
AGAIN = "run the same command to go on"
INTERRUPTED = 130  # exit status of what Ctrl-C ended
# What Snakemake says once more of jobs that failed, which have had their say.
_REPEATED = ("Exiting because a job execution failed", "WorkflowError:\nAt least one job did not complete")
_STREAM = "DefaultStreamHandler"  # Snakemake's name for the handler that this one replaces


def wanted() -> bool:
    """Whether to show this instead of Snakemake's text."""
    told = os.environ.get("BEVKD_CONSOLE", "")
    return told == "1" if told in ("0", "1") else sys.stdout.isatty() and sys.stderr.isatty()


def later(seconds: float, call: Callable[[], Any]) -> None:
    """Call something after a while, unless this process has ended by then."""
    timer = threading.Timer(seconds, call)
    timer.daemon = True
    timer.start()


def end_jobs() -> None:
    """Ask jobs to stop that go on: a terminal sends Ctrl-C to everybody, others may send it to this process alone."""
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if any(part.endswith("launch.py") for part in child.cmdline()):
                child.terminate()


@contextmanager
def unheard(stream: TextIO) -> Iterator[None]:
    """Around what is written to a stream: the pipe that it is may be closed, or the terminal gone. Work goes on, and
    whatever is still said ends nowhere.
    """
    try:
        yield
    except (OSError, ValueError):
        with suppress(OSError, ValueError), open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), stream.fileno())  # what waits in a buffer would fail once more at the end


class Console(LogHandlerBase):
    """Log events as lines, with a bar below them on a terminal."""

    writes_to_stream, writes_to_file = True, False
    has_filter = has_formatter = True
    needs_rulegraph = False

    def __post_init__(self) -> None:
        """Nothing is known of a plan yet."""
        self.progress: Progress | None = None
        self.replaced: logging.Handler | None = None
        self.early: list[logging.LogRecord] = []  # what came before the plan
        self.failed: dict[int, str] = {}  # jobs that have not been done since
        self.heard = threading.Event()  # Ctrl-C
        self.stopping = self.told = False
        self.announced: int | None = None  # the next table or figure, as it has been said
        self.bar: Any = None

    def take_over(self, logger: logging.Logger) -> bool:
        """Replace Snakemake's own stream handler; False when there is none, because a plugin is in its place."""
        found = [handler for handler in logger.handlers if handler.name == _STREAM]
        if not found:
            return False
        self.replaced = found[0]
        logger.removeHandler(found[0])
        logger.addHandler(self)
        before = sys.excepthook

        def ended(kind: type[BaseException], value: BaseException, trace: Any) -> None:
            """Ctrl-C while the plan is made needs no traceback."""
            if issubclass(kind, KeyboardInterrupt):
                print(f"interrupted; {AGAIN}", file=sys.stderr)
            else:
                before(kind, value, trace)

        sys.excepthook = ended
        return True

    def begin(self, progress: Progress, head: Sequence[str]) -> None:
        """Show a plan whose jobs start now; from the main thread."""
        self.progress = progress
        self.early.clear()
        for line in head:
            self._say(line)
        before = signal.getsignal(signal.SIGINT)

        def interrupt(number: int, frame: Any) -> None:
            self.heard.set()  # before the jobs, which hear it as well, are reported as failed
            # An exception that comes while objects are deleted, or in a callback, goes no further: then once more.
            later(1.0, lambda: self.stopping or os.kill(os.getpid(), signal.SIGINT))
            if callable(before):
                before(number, frame)

        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, interrupt)
        if sys.stdout.isatty():
            from bar import Bar

            with unheard(sys.stdout):
                self.bar = Bar(progress)
        self._next()

    def emit(self, record: logging.LogRecord) -> None:
        """Show what a person wants to know of an event."""
        try:
            event = getattr(record, "event", None)
            if event == LogEvent.JOB_ERROR:
                self._error(record)
            elif record.levelno >= logging.WARNING:
                self._warn(record, event)
            elif self.progress is None:
                self.early.append(record)
            elif event == LogEvent.JOB_INFO:
                self.progress.start(record.jobid)  # type: ignore[attr-defined]
            elif event == LogEvent.JOB_FINISHED:
                self._finished(record.job_id)  # type: ignore[attr-defined]
            elif event is None:
                self._told(str(record.msg))
        except Exception:
            self.handleError(record)

    def _told(self, text: str) -> None:
        """Turns that a run takes."""
        if text.startswith("Trying to restart job"):
            self._say("  it is tried again")
        elif text.startswith("Will exit after finishing currently running jobs"):
            self._say("asked to stop: waiting for the jobs that run")
        elif text.startswith("Terminating processes on user request"):
            self.stopping = True
            self.heard.set()
            self._say("stopping: trainings leave a checkpoint")
            later(PATIENCE, end_jobs)

    def close(self) -> None:
        """Say how it ended."""
        if not self.told:
            self.told = True
            if self.bar is not None:
                with unheard(sys.stdout):
                    self.bar.stop()
            self._end()
        super().close()

    def _finished(self, job: int) -> None:
        assert self.progress is not None
        work, seconds = self.progress.work.get(job), self.progress.finish(job)
        if work is None:  # a name for its inputs
            return
        self.failed.pop(job, None)
        width = len(str(len(self.progress.work)))
        place = f"{len(self.progress.done):>{width}}/{len(self.progress.work)}"
        share = "" if self.bar is not None else f" {self._state()}"
        made = f"  {work.makes}" if work.makes else ""
        self._say(f"[{place}{share}] {work.what} {work.which}  {time_text(seconds)}{made}")
        self._next()

    def _next(self) -> None:
        """On paper: the table or figure to come, whenever it is another one; a bar says it all the time."""
        assert self.progress is not None
        coming = self.progress.coming()
        if self.bar is None and coming not in (None, self.announced):
            work, left = self.progress.work[coming], self.progress.left(self.progress.tables[coming])
            self._say(f"next {work.what}: {work.which}" + ("" if left is None else f" in about {time_text(left)}"))
            self.announced = coming

    def _state(self) -> str:
        """What the bar says, in words."""
        assert self.progress is not None
        left = self.progress.left()
        return f"{100 * self.progress.share():3.0f} %" + ("" if left is None else f", {time_text(left)} left")

    def _error(self, record: logging.LogRecord) -> None:
        """A job failed: the end of its log, and where there is more."""
        job = record.jobid  # type: ignore[attr-defined]
        work = self.progress.work.get(job) if self.progress else None
        if self.progress is not None:
            self.progress.stop(job)
        # On a busy machine a job that Ctrl-C has ended is reported before the handler of this process had its turn.
        if self.heard.wait(GRACE):
            return
        name = f"{work.what} {work.which}" if work else str(record.rule_name)  # type: ignore[attr-defined]
        self.failed[job] = name
        self._say(f"FAILED {name}", error=True)
        for log in map(Path, record.log):  # type: ignore[attr-defined]
            if log.exists():
                with log.open(encoding="utf-8", errors="replace") as stream:
                    for line in deque(stream, maxlen=TAIL):
                        self._say(f"  | {line.rstrip()}", error=True)
                self._say(f"  more: less {log}", error=True)
            else:
                self._say(f"  it has left no log ({log})", error=True)

    def _warn(self, record: logging.LogRecord, event: Any) -> None:
        """Errors and warnings of Snakemake itself, once."""
        text = str(record.msg)
        of_a_job = event == LogEvent.ERROR and "CalledProcessError" in text
        if of_a_job or text.startswith(_REPEATED) or (self.heard.is_set() and event is not None):
            return
        self.early.clear()
        if self.replaced is not None:
            text = self.replaced.format(record)
        self._say(text, error=True)

    def _end(self) -> None:
        progress = self.progress
        if progress is None:  # nothing was to be done, or something that is no run of jobs
            texts = [str(record.msg) for record in self.early]
            if any(text.startswith("Nothing to be done") for text in texts):
                self._say("nothing to be done: everything that was asked for is there and up to date")
            elif self.replaced is not None:
                for record in filter(self.replaced.filter, self.early):
                    self.replaced.emit(record)
            return
        done, took = f"{len(progress.done)} of {len(progress.work)} jobs", progress.clock() - progress.began
        if self.heard.is_set():
            self._say(f"interrupted after {time_text(took)}, {done} done; {AGAIN}")
        elif len(progress.done) == len(progress.work):
            self._say(f"done: {done} in {time_text(took)}")
        elif self.failed:
            what = "1 job failed" if len(self.failed) == 1 else f"{len(self.failed)} jobs failed"
            names = ", ".join(self.failed.values())
            self._say(f"stopped after {time_text(took)}, {done} done; {what}: {names}", error=True)
            self._say(f"when that is mended, {AGAIN}", error=True)
        else:
            self._say(f"stopped after {time_text(took)}, {done} done; {AGAIN}")

    def _say(self, text: str, error: bool = False) -> None:
        """A line, above the bar where there is one."""
        above = self.bar is not None and self.bar.shown
        stream = sys.stderr if error and not above else sys.stdout
        with unheard(stream):
            if above:
                self.bar.say(text)
            else:
                print(text, file=stream, flush=True)
