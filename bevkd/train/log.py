"""Training logs: `log.jsonl` (one line per `log_every` steps), TensorBoard, progress bar."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from bevkd.io import json_text, write_text


def read_log(path: Path) -> list[dict[str, Any]]:
    """Complete lines of a `log.jsonl`; a last line cut short by a crash is left out."""
    if not path.exists():
        return []
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            break
    return lines


class TrainLog:
    """Writes `out/log.jsonl` and `out/tb`, and shows a progress bar on a terminal.

    Args:
        out: folder of the run.
        start: step that training (re)starts from; lines of later steps are dropped, so none appears twice.
        steps: last step.
        title: text of the progress bar.
        enabled: False on all processes but the first.
    """

    def __init__(self, out: Path, start: int, steps: int, title: str, enabled: bool = True) -> None:
        self.enabled = enabled
        if not enabled:
            return
        from torch.utils.tensorboard import SummaryWriter

        path = out / "log.jsonl"
        kept = [line for line in read_log(path) if line["step"] <= start]
        write_text(path, "".join(json_text(line) + "\n" for line in kept))
        self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115 - closed by __exit__
        self._board = SummaryWriter(str(out / "tb"), purge_step=start + 1)
        console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[state]}"),
            console=console,
            disable=not (console.is_terminal and sys.stderr.isatty()),
        )
        self._task = self._progress.add_task(title, total=steps, completed=start, state="")
        self._progress.start()

    def __enter__(self) -> TrainLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.enabled:
            self._progress.stop()
            self._file.close()
            self._board.close()

    def advance(self, step: int) -> None:
        """Move the progress bar."""
        if self.enabled:
            self._progress.update(self._task, completed=step)

    def write(
        self,
        step: int,
        losses: dict[str, float],
        *,
        lr: float,
        grad_norm: float,
        data_s: float,
        compute_s: float,
        frames: int,
    ) -> None:
        """Log the window that ends with `step`.

        Args:
            step: number of finished steps.
            losses: means over the window: "total", the detection terms, and distillation terms as "kd_<name>".
            lr: learning rate of the last step.
            grad_norm: mean norm of the gradients before clipping.
            data_s: time of this process spent waiting for data.
            compute_s: time spent in everything else.
            frames: frames of this process in the window.
        """
        if not self.enabled:
            return
        seconds = data_s + compute_s
        scalars = {
            "lr": lr,
            "grad_norm": grad_norm,
            "data_s": round(data_s, 6),
            "compute_s": round(compute_s, 6),
            "samples_per_s": round(frames / seconds, 3) if seconds > 0 else 0.0,
        }
        self._file.write(json_text({"step": step, "losses": losses, **scalars}) + "\n")
        self._file.flush()
        for name, value in losses.items():
            self._board.add_scalar(f"loss/{name}", value, step)
        for name, value in scalars.items():
            self._board.add_scalar(f"train/{name}", value, step)
        share = 100 * data_s / seconds if seconds > 0 else 0.0
        state = f"loss {losses['total']:.3f}  {scalars['samples_per_s']:.1f} frames/s  data {share:.0f} %"
        self._progress.update(self._task, state=state)

    def sync(self) -> None:
        """Bring the lines to disk, so that a checkpoint never is ahead of its log."""
        if self.enabled:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._board.flush()
