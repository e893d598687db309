"""The training log survives crashes without gaps or repetitions."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from bevkd.report.course import Course, course_of, read_course
from bevkd.train.log import TrainLog, read_log
from bevkd.train.window import Window


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
        "clipped": 0.0,
        "clip_scale": 1.0,
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


@pytest.mark.parametrize("limit", [4.0, math.inf])
def test_a_window_counts_what_clipping_does(tmp_path: Path, limit: float) -> None:
    """Against the gradients that `clip_grad_norm_` leaves."""
    window, scales = Window(), []
    generator = torch.Generator().manual_seed(0)
    with TrainLog(tmp_path, 0, 40, "test") as log:
        for step in range(1, 41):
            parameter = torch.nn.Parameter(torch.zeros(16))
            parameter.grad = torch.randn(16, generator=generator)
            before = parameter.grad.clone()
            norm = torch.nn.utils.clip_grad_norm_([parameter], limit)
            scales.append(float((parameter.grad / before).mean()))
            window.add({"total": torch.ones(())}, norm, limit, 4, 0.0, 1.0)
            if step == 17:  # stopped inside of a window, and gone on with
                window = Window(window.state())
            if step in (10, 20, 40):
                window.write(log, step, 0.1)
    lines = read_log(tmp_path / "log.jsonl")
    for line, part in zip(lines, (scales[:10], scales[10:20], scales[20:]), strict=True):
        assert line["clipped"] == sum(scale < 1 - 1e-4 for scale in part) / len(part)
        assert line["clip_scale"] == pytest.approx(sum(part) / len(part), rel=1e-5)
    found = read_course(tmp_path / "log.jsonl")  # windows of unequal length
    assert found.clipped == pytest.approx(sum(scale < 1 - 1e-4 for scale in scales) / 40)
    assert found.clip_scale == pytest.approx(sum(scales) / 40, rel=1e-5)
    assert (found.clipped == 0.0) is (limit == math.inf)


def test_the_share_of_distillation_is_that_of_the_last_tenth() -> None:
    lines = [{"step": step, "losses": {"det": 2.0, "kd_total": 9.0}} for step in range(10, 100, 10)]
    lines += [
        {"step": 95, "losses": {"det": 4.0, "kd_total": 1.0}},
        {"step": 100, "losses": {"det": 6.0, "kd_total": 1.0}},
    ]
    assert course_of(lines) == Course(None, None, 0.2), "logs of earlier versions do not say what was clipped"
    assert course_of([{"step": 1, "losses": {"det": 4.0}, "clipped": 1.0, "clip_scale": None}]) == Course(
        1.0, None, None
    )
