"""Weights kept during a training: there, none twice, and the same after a kill."""

from __future__ import annotations

import json
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from test_train_loop import assert_same_bits, weights
from test_train_processes import wait_for_step
from train_case import folder, tiny_run
from train_process import finish, start

from bevkd.cli import main
from bevkd.errors import CheckpointError, ConfigError, Interrupted
from bevkd.train import load_detector, train
from bevkd.train.checkpoint import read_model
from bevkd.train.snapshots import snapshot_folder, snapshot_steps


def kept(out: Path) -> dict[str, int]:
    """Snapshots of a run and the steps at which they were taken."""
    return {path.parent.name: read_model(path)["step"] for path in sorted((out / "snapshots").glob("*/model.pt"))}


def test_steps() -> None:
    assert snapshot_steps(0, 10) == snapshot_steps(1, 10) == {}
    assert snapshot_steps(4, 400) == {100: "1of4", 200: "2of4", 300: "3of4"}
    assert list(snapshot_steps(3, 10)) == [3, 7]
    assert list(snapshot_steps(5, 5)) == [1, 2, 3, 4]
    with pytest.raises(ConfigError, match="no 6 parts of 5 steps"):
        snapshot_steps(6, 5)


def test_snapshots_are_the_weights_on_the_way(smoke_dataset: Any, tmp_path: Path) -> None:
    run = tiny_run(smoke_dataset, snapshots=3)
    out = folder(tmp_path, run)
    model = train(run, out)
    assert kept(out) == {"1of3": 2, "2of3": 4}
    without = tiny_run(smoke_dataset)
    expected = weights(train(without, folder(tmp_path / "without", without)))
    assert_same_bits(weights(model), expected)  # keeping weights changes none
    detector, loaded = load_detector(snapshot_folder(out, 1) / "model.pt")
    assert loaded == run
    assert any(not bool((value == expected[name]).all()) for name, value in detector.state_dict().items())
    assert main(["predict", "--run", "plain", "--split", "val", "--scale", "smoke", "--runs", str(out.parents[2]),
                 "--snapshot", "2"]) == 0  # fmt: skip
    metrics = json.loads((out / "snapshots" / "2of3" / "metrics_val.json").read_text())
    assert 0 <= metrics["mean_ap"] <= 1
    assert not (out / "metrics_val.json").exists()
    with pytest.raises(CheckpointError, match=r"no snapshot 3 \(there are: 1of3, 2of3\)"):
        snapshot_folder(out, 3)


def test_interrupted_training_keeps_each_once(smoke_dataset: Any, tmp_path: Path) -> None:
    run = tiny_run(smoke_dataset, snapshots=3, checkpoint_every=100)
    whole, out = folder(tmp_path / "whole", run), folder(tmp_path / "parts", run)
    train(run, whole)
    for at in (2, 3, 5):  # the first stop lies on a snapshot
        with pytest.raises(Interrupted, match=f"step {at} of 6"):
            train(run, out, stop_after=at - (read_step(out)))
        assert kept(out) == {name: step for name, step in (("1of3", 2), ("2of3", 4)) if step <= at}
    train(run, out)
    for name in kept(whole):
        assert_same_bits(
            weights(out / "snapshots" / name / "model.pt"), weights(whole / "snapshots" / name / "model.pt")
        )
    assert kept(out) == kept(whole) == {"1of3": 2, "2of3": 4}


def read_step(out: Path) -> int:
    from bevkd.train.checkpoint import load_checkpoint

    state = load_checkpoint(out)
    return 0 if state is None else int(state["step"])


def test_killed_training_has_the_same_snapshots(smoke_dataset: Any, tmp_path: Path) -> None:
    run = tiny_run(smoke_dataset, steps=40, checkpoint_every=15, snapshots=8)
    whole, out = folder(tmp_path / "whole", run), folder(tmp_path / "killed", run)
    train(run, whole)
    process = start(run, out)
    wait_for_step(process, out, 22)  # snapshots 1 to 4 are there, those from step 16 on will be made again
    process.send_signal(signal.SIGKILL)
    assert finish(process)[0] == -signal.SIGKILL
    code, text = finish(start(run, out))
    assert code == 0, text
    assert kept(out) == kept(whole) == {f"{i}of8": 5 * i for i in range(1, 8)}
    for name in kept(whole):
        assert_same_bits(
            weights(out / "snapshots" / name / "model.pt"), weights(whole / "snapshots" / name / "model.pt")
        )
    assert not list(out.rglob(".*.tmp"))


def test_snapshots_that_are_asked_for_later(
    smoke_dataset: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """They are no part of what a run is; to have them it is trained once more, with the same result."""
    plain = tiny_run(smoke_dataset)
    out = folder(tmp_path, plain)
    before = weights(train(plain, out))
    asked = replace(plain, train=replace(plain.train, snapshots=2))
    train(asked, out)
    assert "lacks the snapshots 1of2: training anew" in caplog.text
    assert kept(out) == {"1of2": 3}
    assert_same_bits(weights(out / "model.pt"), before)
    train(plain, out)  # complete, with or without
    other = replace(plain, train=replace(plain.train, snapshots=3))
    train(other, out, restart=True)
    assert kept(out) == {"1of3": 2, "2of3": 4}
    with pytest.raises(Interrupted):
        train(plain, folder(tmp_path / "late", plain), stop_after=4)
    train(asked, folder(tmp_path / "late", plain))
    assert kept(folder(tmp_path / "late", plain)) == {"1of2": 3}
