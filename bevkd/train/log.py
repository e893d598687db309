"""Training logs: `log.jsonl` (one line per `log_every` steps), TensorBoard, a live line on a terminal."""

from __future__ import annotations

import json
import os
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from bevkd import progress
from bevkd.io import json_text, write_text, writing


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
    """Writes `out/log.jsonl` and `out/tb`, and shows a live line where `bevkd.progress` is switched on.

    Args:
        out: folder of the run.
        start: step that training (re)starts from; lines of later steps are dropped, so none appears twice.
        steps: last step.
        title: first words of the live line.
        enabled: False on all processes but the first.
        seen: what is known of the model before, such as `mAP 12.3 (step 200)`.
    """

    def __init__(self, out: Path, start: int, steps: int, title: str, enabled: bool = True, seen: str = "") -> None:
        self.enabled = enabled
        if not enabled:
            return
        from torch.utils.tensorboard import SummaryWriter

        path = self._path = out / "log.jsonl"
        kept = [line for line in read_log(path) if line["step"] <= start]
        write_text(path, "".join(json_text(line) + "\n" for line in kept))
        with writing(path):
            self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115 - closed by __exit__
        with writing(out / "tb"):
            self._board = SummaryWriter(str(out / "tb"), purge_step=start + 1)
        self._loss, self._seen, self._state = "", seen, ("", "")
        self._stack = ExitStack()
        self._bar = self._stack.enter_context(progress.bar(title, steps, "steps", start))
        self._show()

    def __enter__(self) -> TrainLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.enabled:
            self._stack.close()
            with writing(self._path) if error is None else suppress(OSError):  # of two errors the first one says more
                self._file.close()
                self._board.close()

    def advance(self, step: int) -> None:
        """Move the live line."""
        if self.enabled:
            self._bar.reach(step)

    def saw(self, text: str) -> None:
        """What is known of the model now, such as `mAP 12.3 (step 200)`."""
        if self.enabled:
            self._seen = text
            self._show()

    def _show(self) -> None:
        number, space, when = self._seen.partition(" (")
        self._bar.note(self._loss, number, f"{space}{when}".strip(), *self._state)

    def write(
        self,
        step: int,
        losses: dict[str, float],
        *,
        lr: float,
        grad_norm: float,
        clipped: float = 0.0,
        clip_scale: float = 1.0,
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
            clipped: share of the steps whose gradient was clipped.
            clip_scale: mean factor by which clipping scaled gradients; 1 in a step that was not clipped.
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
            "clipped": clipped,
            "clip_scale": clip_scale,
            "data_s": round(data_s, 6),
            "compute_s": round(compute_s, 6),
            "samples_per_s": round(frames / seconds, 3) if seconds > 0 else 0.0,
        }
        with writing(self._path):
            self._file.write(json_text({"step": step, "losses": losses, **scalars}) + "\n")
            self._file.flush()
        with writing(self._path.parent / "tb"):
            for name, value in losses.items():
                self._board.add_scalar(f"loss/{name}", value, step)
            for name, value in scalars.items():
                self._board.add_scalar(f"train/{name}", value, step)
        share = 100 * data_s / seconds if seconds > 0 else 0.0
        self._loss = f"loss {losses['total']:.3f}"
        self._state = (f"data {share:.0f} % compute {100 - share:.0f} %", f"{scalars['samples_per_s']:.1f} frames/s")
        self._show()

    def sync(self) -> None:
        """Bring the lines to disk, so that a checkpoint never is ahead of its log."""
        if self.enabled:
            with writing(self._path):
                self._file.flush()
                os.fsync(self._file.fileno())
                self._board.flush()
