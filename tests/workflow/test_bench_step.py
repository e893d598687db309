"""What a training step costs, measured on tiny but real runs."""

from __future__ import annotations

import itertools
import json
import math
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from train_case import folder, tiny_model, tiny_run
from workflow_case import ROOT, environment

from bevkd.bench import step as bench
from bevkd.bench.step import Cost, TimedStep, cost_of, make_cache, measure, ways
from bevkd.errors import BevkdError, ConfigError
from bevkd.report.metrics import METRICS, value_of


def taught(smoke_dataset: Any) -> Any:
    model = tiny_model("camera")
    return tiny_run(smoke_dataset, "student", model=model, teacher="teacher", method="imitation")


def measured(run: Any, trained: Path, tmp_path: Path, warmup: int, steps: int) -> dict[str, Cost]:
    known, cache = ways(run), tmp_path / "cache"
    make_cache(known["cached"], folder(trained, run), cache)
    return {
        way: measure(one, folder(trained, run), warmup, steps, cache if way == "cached" else None)
        for way, one in known.items()
    }


def test_every_way_is_measured(smoke_dataset: Any, trained: Path, tmp_path: Path) -> None:
    found = measured(taught(smoke_dataset), trained, tmp_path, 1, 3)
    assert list(found) == ["plain", "live", "cached"]
    for cost in found.values():
        assert 0 < cost.loss_s < cost.step_s
        assert cost.loss_s <= cost.loss_p90_s
        assert cost.step_s <= cost.step_p90_s
        assert 0.1 < cost.memory_gib < 16
    assert list(ways(tiny_run(smoke_dataset))) == ["plain"]


def test_a_cached_teacher_is_looked_up_and_a_live_one_runs(
    smoke_dataset: Any, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, seen = taught(smoke_dataset), {}
    original = bench._time

    def spy(timed: TimedStep, *rest: Any) -> Cost:
        engine = timed.module.engine
        seen[len(seen)] = None if engine is None else ("cache" if engine.cached else "teacher")  # type: ignore[union-attr]
        return original(timed, *rest)

    monkeypatch.setattr(bench, "_time", spy)
    measured(run, trained, tmp_path, 0, 1)
    assert list(seen.values()) == [None, "teacher", "cache"]


def test_the_clock_is_read_between_loss_and_update(smoke_dataset: Any, tmp_path: Path) -> None:
    run, ticks = tiny_run(smoke_dataset), itertools.count()
    student = bench.build_student(run)
    device = bench.torch.device("cpu")
    timed = TimedStep(bench.TrainStep(student, None), run.train, device, clock=lambda: float(next(ticks)))
    frames = bench.resolve(run, folder(tmp_path, run)).frames
    batch = bench.collate([frames.get(0, 0), frames.get(1, 0)])
    before = [p.detach().clone() for p in student.parameters()]
    assert timed.step(batch) == (1.0, 2.0)
    assert any(not bench.torch.equal(a, b) for a, b in zip(before, student.parameters(), strict=True))


def test_findings_are_written_with_increases(smoke_dataset: Any, trained: Path, tmp_path: Path) -> None:
    run = taught(smoke_dataset)
    out = tmp_path / "cost.json"
    content = cost_of(run, folder(trained, run), out, warmup=0, steps=2, repeats=3)
    assert json.loads(out.read_text()) == content
    assert len(content["repeats"]) == 3
    for one in content["repeats"]:
        for way in ("live", "cached"):
            ratio = one[way]["loss_s"] / one["plain"]["loss_s"]
            assert one[way]["loss_increase"] == pytest.approx(100 * (ratio - 1))
            more = one[way]["memory_gib"] - one["plain"]["memory_gib"]
            assert one[way]["memory_increase_gib"] == pytest.approx(more)
    for way in ("plain", "live", "cached"):
        for name, value in content[way].items():
            seen = sorted(one[way][name] or 0.0 for one in content["repeats"])
            assert (value or 0.0) == seen[1]
    assert content["frames_per_step"] == 2
    assert content["machine"]["threads"] >= 1
    for key, metric in METRICS.items():
        if metric.file == "cost":
            assert math.isfinite(value_of(content, key, out))


def test_a_run_without_a_teacher_has_no_increase(smoke_dataset: Any, tmp_path: Path) -> None:
    run = tiny_run(smoke_dataset)
    content = cost_of(run, folder(tmp_path, run), tmp_path / "cost.json", warmup=0, steps=2, repeats=1)
    assert content["live"]["loss_s"] == content["cached"]["loss_s"] == content["plain"]["loss_s"]
    assert content["live"]["loss_increase"] is None
    assert math.isnan(value_of(content, "loss_time_increase_live", tmp_path))
    assert value_of(content, "loss_time_live", tmp_path) == content["plain"]["loss_s"]


def test_errors_of_the_child_are_those_of_the_parent(smoke_dataset: Any, tmp_path: Path) -> None:
    run = taught(smoke_dataset)  # its teacher is not trained here
    out = tmp_path / "cost.json"
    with pytest.raises(ConfigError, match="teacher"):
        cost_of(run, folder(tmp_path, run), out, warmup=0, steps=1)
    for settings in ({"steps": 0}, {"repeats": 0}, {"warmup": -1}, {"batch": 0}):
        with pytest.raises(ConfigError, match="at least one step"):
            cost_of(run, folder(tmp_path, run), out, **settings)
    assert not out.exists()


def test_a_killed_child_is_an_error_and_not_a_wait_for_ever() -> None:
    with pytest.raises(BevkdError, match="exit code -9"):
        bench._alone(signal.raise_signal, signal.SIGKILL)


def peak_mib(size_mib: int) -> float:
    """Peak memory of a process that holds so much for a while."""
    bytes_held = b"x" * (size_mib << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 + 0 * len(bytes_held)


@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux alone")
def test_a_forked_measurement_has_its_own_peak_memory() -> None:
    """What the parent once held does not count, what the child holds does."""
    code = (
        "import json, resource, sys; sys.path[:0] = ['tests/workflow', 'tests/unit', 'tests', '.']\n"
        "import test_bench_step as case; from bevkd.bench import step\n"
        "before = case.peak_mib(600)\n"
        "idle, busy = (step._alone(case.peak_mib, size) for size in (0, 200))\n"
        "print(json.dumps([step._context().get_start_method(), before, idle, busy]))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    method, before, idle, busy = json.loads(done.stdout)
    assert method == ("spawn" if bench.torch.cuda.is_available() else "fork")
    assert idle < before - 500
    assert busy - idle == pytest.approx(200, abs=20)


def test_a_process_with_threads_of_libraries_is_not_forked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench.threading, "active_count", lambda: 0)
    assert bench._context().get_start_method() == "spawn"


def test_frames_per_step_and_what_is_measured_where(
    smoke_dataset: Any, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, calls = taught(smoke_dataset), []

    def here(task: Any, *arguments: Any) -> Any:
        calls.append((task.__name__, arguments[0].train.batch_size))
        return task(*arguments)

    monkeypatch.setattr(bench, "_alone", here)
    content = cost_of(run, folder(trained, run), tmp_path / "cost.json", warmup=0, steps=1, repeats=2, batch=1)
    assert calls == [("make_cache", 1)] + 6 * [("measure", 1)]  # the cache is not made where memory is measured
    assert content["frames_per_step"] == 1
