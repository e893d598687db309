"""Training in processes of its own: killed with SIGKILL, stopped with SIGTERM, split over two processes."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from test_train_loop import assert_same_bits, losses, weights
from train_case import folder, tiny_model, tiny_run
from train_process import finish, start, train_on_two

from bevkd.errors import Interrupted
from bevkd.train import train
from bevkd.train.log import read_log


def wait_for_step(process: Any, out: Path, step: int, timeout: float = 120) -> None:
    """Until the log has a step, or fail with what the process said."""
    end = time.monotonic() + timeout
    while not any(line["step"] >= step for line in read_log(out / "log.jsonl")):
        if process.poll() is not None or time.monotonic() > end:
            process.kill()
            pytest.fail(f"no step {step}: {finish(process)}")
        time.sleep(0.01)


def test_killed_training_ends_with_the_same_bits(smoke_dataset: Any, tmp_path: Path) -> None:
    run = tiny_run(smoke_dataset, steps=60, checkpoint_every=3)
    whole, out = folder(tmp_path / "whole", run), folder(tmp_path / "killed", run)
    expected = weights(train(run, whole))
    at = random.SystemRandom().randrange(4, 50)
    process = start(run, out)
    wait_for_step(process, out, at)
    process.send_signal(signal.SIGKILL)
    assert finish(process)[0] == -signal.SIGKILL, f"ended before it was killed at step {at}"
    assert not (out / "model.pt").exists()
    assert (out / "checkpoint.pt").exists() or (out / "checkpoint.prev.pt").exists(), f"killed at step {at}"
    code, text = finish(start(run, out))
    assert code == 0, text
    assert_same_bits(weights(out / "model.pt"), expected)
    assert losses(out) == losses(whole), f"killed at step {at}"
    assert not list(out.glob(".*.tmp"))


def test_sigterm_writes_a_checkpoint_and_exits_with_4(smoke_dataset: Any, tmp_path: Path) -> None:
    run = tiny_run(smoke_dataset, steps=1000, checkpoint_every=1000)
    out = folder(tmp_path, run)
    process = start(run, out)
    wait_for_step(process, out, 2)
    process.send_signal(signal.SIGTERM)
    code, text = finish(process)
    assert code == Interrupted.exit_code == 4, text
    assert "run the same command" in text
    last = losses(out)[-1][0]
    with pytest.raises(Interrupted, match=f"step {last + 1} of 1000"):
        train(run, out, stop_after=1)


def ended(group: int, timeout: float = 30) -> bool:
    """Whether the last process of a group ends in time."""
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    os.killpg(group, signal.SIGKILL)
    return False


def test_sigterm_to_the_whole_group_writes_a_checkpoint_and_leaves_no_process(
    smoke_dataset: Any, tmp_path: Path
) -> None:
    """As batch systems send it: to the data workers as well."""
    run = tiny_run(smoke_dataset, steps=1000, checkpoint_every=1000, workers=2)
    out = folder(tmp_path, run)
    process = start(run, out, group=True)
    wait_for_step(process, out, 2)
    os.killpg(process.pid, signal.SIGTERM)
    code, text = finish(process, timeout=60)
    assert code == Interrupted.exit_code == 4, text
    assert (out / "checkpoint.pt").exists()
    assert ended(process.pid)
    last = losses(out)[-1][0]
    with pytest.raises(Interrupted, match=f"step {last + 1} of 1000"):
        train(run, out, stop_after=1)
    assert multiprocessing.active_children() == []


def test_workers_end_with_a_training_that_is_killed(smoke_dataset: Any, tmp_path: Path) -> None:
    run = tiny_run(smoke_dataset, steps=1000, checkpoint_every=1000, workers=2)
    out = folder(tmp_path, run)
    process = start(run, out, group=True)
    wait_for_step(process, out, 2)
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=60)
    assert ended(process.pid)


@pytest.mark.parametrize("kind", ["lidar", "distilled"])
def test_two_processes_train_as_one(smoke_dataset: Any, tmp_path: Path, kind: str) -> None:
    """Same global batch, same losses: statistics, normalisers and gradients are those of all frames."""
    # Every class is a task of its own, which one of the two may lack. A batch of both holds all of them: where no
    # process has any, two teach the mean of their backgrounds and one their sum (`rank_count`, tested on its own).
    few = {"classes": ("car", "pedestrian", "barrier")}
    model = tiny_model("lidar", iou_weight=1.0)
    model = replace(model, head=replace(model.head, tasks=tuple((name,) for name in few["classes"])))
    options: dict[str, Any] = {"model": model, "data": few}
    if kind == "distilled":
        teacher = tiny_run(smoke_dataset, "teacher", steps=2)
        for root in ("one", "two"):
            train(teacher, folder(tmp_path / root, teacher))
        options = {
            "model": tiny_model("camera", depth_weight=1.0),
            "teacher": "teacher",
            "method": "unidistill",
            "frames": "all",
            "unlabelled_per_batch": 2,
        }
    run = tiny_run(smoke_dataset, kind, steps=5, batch_size=4, lr=1e-3, **options)
    one, two = folder(tmp_path / "one", run), folder(tmp_path / "two", run)
    train(run, one)
    train_on_two(run, two)
    ours, reference = losses(two), losses(one)
    assert [step for step, _ in ours] == [step for step, _ in reference] == [1, 2, 3, 4, 5]
    for (step, split), (_, whole) in zip(ours, reference, strict=True):
        assert split.keys() == whole.keys()
        # The loss of step 2 already rests on shared statistics, normalisers and gradients. After that Adam turns the
        # rounding of tiny gradients into steps of full length, so that the two drift apart.
        for name, value in whole.items():
            assert split[name] == pytest.approx(value, rel=1e-5 if step <= 2 else 2e-3, abs=1e-5), (step, name)
    for name, value in weights(one / "model.pt").items():
        other = weights(two / "model.pt")[name]
        assert other.shape == value.shape
        if value.is_floating_point():
            assert float((other - value).abs().max()) < 5 * 1e-3, name
