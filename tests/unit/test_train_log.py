"""The training log survives crashes without gaps or repetitions."""

from __future__ import annotations

import json
from pathlib import Path

from bevkd.train.log import TrainLog, read_log


def _write(out: Path, start: int, last: int) -> None:
    with TrainLog(out, start, 10, "test") as log:
        for step in range(start + 1, last + 1):
            log.write(step, {"total": 1.0 / step}, lr=0.1, grad_norm=2.0, data_s=1.0, compute_s=3.0, frames=8)
            log.advance(step)
        log.sync()


def test_lines_hold_what_was_measured(tmp_path: Path) -> None:
    _write(tmp_path, 0, 2)
    first = read_log(tmp_path / "log.jsonl")[0]
    assert first == {
        "step": 1,
        "losses": {"total": 1.0},
        "lr": 0.1,
        "grad_norm": 2.0,
        "data_s": 1.0,
        "compute_s": 3.0,
        "samples_per_s": 2.0,
    }
    assert list((tmp_path / "tb").glob("events.*"))


def test_resumed_log_has_every_step_once(tmp_path: Path) -> None:
    _write(tmp_path, 0, 7)
    with open(tmp_path / "log.jsonl", "a", encoding="utf-8") as file:
        file.write('{"step": 8, "losses": {"to')  # killed while writing
    _write(tmp_path, 4, 10)  # the checkpoint was that of step 4
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(1, 11))


def test_disabled_log_touches_nothing(tmp_path: Path) -> None:
    with TrainLog(tmp_path, 0, 1, "test", enabled=False) as log:
        log.write(1, {"total": 1.0}, lr=0.1, grad_norm=1.0, data_s=0.0, compute_s=1.0, frames=1)
        log.advance(1)
        log.sync()
    assert not list(tmp_path.iterdir())
