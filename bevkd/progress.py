"""Progress on a terminal: library code says what it works on, and nothing is drawn unless a command line asks for it.

    with progress.bar("simulating", len(jobs), "scenes") as bar:
        for job in jobs:
            ...
            bar.advance()

Bars are off by default, in every new process: workers stay silent, the process that hands out their work draws.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

T = TypeVar("T")
_console: Console | None = None
_busy = False  # a line is drawn: work within that work draws none, a terminal has one last line
_BAR = 24
_WIDE = 110  # columns of a terminal that have room for a bar beside numbers


class Bar:
    """What is told how far the work has come; without a line of a terminal it does nothing."""

    def __init__(self, line: tuple[Progress, TaskID] | None = None, room: int = 0) -> None:
        self._line, self._room = line, room

    def advance(self, count: int = 1) -> None:
        """So many more are done."""
        if self._line is not None:
            self._line[0].advance(self._line[1], count)

    def reach(self, done: int) -> None:
        """So many are done by now."""
        if self._line is not None:
            self._line[0].update(self._line[1], completed=done)

    def note(self, *parts: str) -> None:
        """What stands beside the numbers, such as `loss 2.41`: as many parts as there is room for, the first ones."""
        if self._line is None:
            return
        text = ""
        for part in filter(None, parts):
            longer = f"{text}  {part}" if text else part
            if len(longer) > self._room:
                break
            text = longer
        self._line[0].update(self._line[1], note=text)


def show_on(console: Console | None) -> None:
    """Draw bars on a console from now on, if it is a terminal that can move its cursor; None: draw none."""
    global _console
    able = console is not None and console.is_terminal and not console.is_dumb_terminal
    _console = console if able else None


def shown() -> bool:
    """Whether bars are drawn."""
    return _console is not None


@contextmanager
def bar(title: str, total: int, unit: str = "", done: int = 0) -> Iterator[Bar]:
    """A bar that goes when the block ends: what was done is said in words then.

    Args:
        title: what is done, such as `simulating`.
        total: how much there is to do.
        unit: what is counted, such as `scenes`.
        done: how much of it was done before.
    """
    global _busy
    if _console is None or total < 1 or _busy:
        yield Bar()
        return
    from rich import progress as rich
    from rich.table import Column

    note = rich.TextColumn("{task.fields[note]}", markup=False, table_column=Column(no_wrap=True))
    # Beside the note: title, bar, `12/400`, unit, two times, and the spaces between.
    wide = _console.width >= _WIDE
    taken = len(title) + _BAR * wide + 2 * len(str(total)) + 1 + len(unit) + len("0:00:00 ETA 0:00:00") + 6
    narrow = _console.width < taken
    columns = [
        rich.TextColumn("{task.description}", markup=False),
        *([rich.BarColumn(bar_width=_BAR)] if wide else []),
        rich.MofNCompleteColumn(),
        *([rich.TextColumn(unit, markup=False)] if unit and not narrow else []),
        *([note, rich.TimeElapsedColumn()] if not narrow else []),
        rich.TextColumn("ETA"),
        rich.TimeRemainingColumn(),
    ]
    # Log lines on stderr appear above the bar; stdout stays what it is.
    _busy = True
    try:
        with rich.Progress(*columns, console=_console, transient=True, redirect_stdout=False) as line:
            yield Bar((line, line.add_task(title, total=total, completed=done, note="")), _console.width - taken)
    finally:
        _busy = False


def track(items: Iterable[T], title: str, total: int, unit: str = "") -> Iterator[T]:
    """The items, with a bar that moves when the work on each is done."""
    with bar(title, total, unit) as shown_bar:
        for item in items:
            yield item
            shown_bar.advance()
