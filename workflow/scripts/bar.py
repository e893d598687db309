"""The last two lines of a terminal: a bar weighted by cost with the time left, and what comes next and runs now."""

from __future__ import annotations

from typing import Any

from progress import Progress, time_text
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

WIDTH = 30


class Bar:
    """Shown until it is stopped; lines are said above it."""

    def __init__(self, progress: Progress, console: Console | None = None) -> None:
        self.progress = progress
        self.console = console or Console(highlight=False, markup=False)
        # Once a second is enough for an hour, and costs nothing that could be measured.
        self.live = Live(get_renderable=self.render, console=self.console, refresh_per_second=1, transient=True)
        self.live.start()
        self.shown = True

    def render(self) -> RenderableType:
        """The two lines as they are now."""
        progress = self.progress
        left, share = progress.left(), progress.share()
        line = Table.grid(padding=(0, 1))
        state = f"{100 * share:3.0f} %" + ("" if left is None else f"  {time_text(left)} left")
        line.add_row(ProgressBar(total=1.0, completed=share, width=WIDTH), Text(state))
        return Group(line, Text(self._now(), style="dim", no_wrap=True, overflow="ellipsis"))

    def _now(self) -> str:
        progress = self.progress
        parts = []
        coming = progress.coming()
        if coming is not None:
            left = progress.left(progress.tables[coming])
            when = "" if left is None else f" in about {time_text(left)}"
            parts.append(f"next {progress.work[coming].what}: {progress.work[coming].which}{when}")
        running = [progress.work[job] for job in list(progress.running)]
        if running:
            parts.append("now: " + ", ".join(f"{work.what} {work.which}" for work in running))
        return "; ".join(parts)

    def say(self, text: str) -> None:
        """A line above the bar, as it is: nothing in it is markup."""
        self.console.print(Text(text), soft_wrap=True)

    def stop(self) -> None:
        """Take the two lines away."""
        self.shown = False
        self.live.stop()

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: Any) -> None:
        self.stop()
