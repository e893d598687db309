"""Training in stages: a run that starts from the weights of another."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from test_train_loop import assert_same_bits, losses, weights
from train_case import folder, tiny_model, tiny_run

from bevkd.config import InitConfig
from bevkd.errors import CheckpointError, ConfigError, Interrupted
from bevkd.train import train
from bevkd.train.checkpoint import load_checkpoint, read_model, weights_digest
from bevkd.train.start import MisfitError

INIT = InitConfig(run="teacher")


def test_a_stage_starts_from_the_weights_of_the_one_before(
    smoke_dataset: Any, trained: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = weights(folder(trained, tiny_run(smoke_dataset, "teacher")) / "model.pt")
    run = tiny_run(smoke_dataset, "stage", init=INIT, lr=1e-12, steps=2)  # so little that the weights stay in sight
    out = folder(trained, run)
    with caplog.at_level(logging.INFO):
        train(run, out)
    assert f"{len(before)} of {len(before)} tensors taken (all)" in caplog.text
    after = weights(out / "model.pt")
    learnt = [name for name in before if "running" not in name and "num_batches" not in name]
    assert max(float((after[name] - before[name]).abs().max()) for name in learnt) < 1e-9
    record = json.loads((out / "init.json").read_text())
    assert record["digest"] == weights_digest(before) == read_model(out / "model.pt")["init"]
    assert record["from"].endswith("results/runs/smoke/teacher/seed0/model.pt")
    assert (record["parts"], record["taken"], record["fresh"], record["unused"]) == (["all"], list(before), [], [])
    # Without them another start, and another first loss.
    fresh = replace(run, row=replace(run.row, init=None))
    train(fresh, folder(trained / "fresh", fresh))
    assert losses(folder(trained / "fresh", fresh))[0][1]["total"] > 1.1 * losses(out)[0][1]["total"]
    assert not (folder(trained / "fresh", fresh) / "init.json").exists()


def test_a_stage_that_was_interrupted_ends_with_the_same_bits(smoke_dataset: Any, trained: Path) -> None:
    """Also with a teacher, which is the stage that papers distil in."""
    runs = [
        tiny_run(smoke_dataset, name, init=INIT, teacher="teacher", method="imitation", steps=4)
        for name in ("staged_whole", "staged_parts")
    ]
    expected = weights(train(runs[0], folder(trained, runs[0])))
    out = folder(trained, runs[1])
    for at in (1, 2):
        with pytest.raises(Interrupted, match=f"step {at} of 4"):
            train(runs[1], out, stop_after=1)
        state = load_checkpoint(out)
        assert state is not None
        assert state["init"] == json.loads((out / "init.json").read_text())["digest"]
    assert_same_bits(weights(train(runs[1], out)), expected)
    assert losses(out) == losses(folder(trained, runs[0]))


def test_parts_of_another_network(smoke_dataset: Any, trained: Path) -> None:
    """The LiDAR encoder of a LiDAR detector for a fusion detector; everything else begins anew."""
    init = InitConfig(run="teacher", seed=0, parts=("lidar",))
    run = tiny_run(smoke_dataset, "fusion", model=tiny_model("lidar", "camera"), init=init, seed=3, steps=1)
    train(run, folder(trained, run))
    record = json.loads((folder(trained, run) / "init.json").read_text())
    assert all(name.startswith("encoders.lidar.") for name in record["taken"])
    assert any(name.startswith("encoders.camera.") for name in record["fresh"])
    assert any(name.startswith("head.") for name in record["unused"])
    misfit = tiny_run(smoke_dataset, "misfit", model=tiny_model("camera"), init=INIT)
    with pytest.raises(MisfitError, match=r"encoders.camera.\S+ is missing there; .* and \d+ more") as caught:
        train(misfit, folder(trained, misfit))
    assert caught.value.exit_code == 2
    assert not (folder(trained, misfit) / "model.pt").exists()


def test_other_weights_to_start_from_are_refused(smoke_dataset: Any, tmp_path: Path) -> None:
    first = tiny_run(smoke_dataset, "teacher", steps=1)
    run = tiny_run(smoke_dataset, "stage", init=INIT, steps=3)
    out = folder(tmp_path, run)
    with pytest.raises(ConfigError, match="starts from run 'teacher', which is not trained yet"):
        train(run, out)
    train(first, folder(tmp_path, first))
    with pytest.raises(Interrupted):
        train(run, out, stop_after=1)
    train(first, folder(tmp_path, first), restart=True)  # the same weights in another file
    with pytest.raises(Interrupted, match="step 2 of 3"):
        train(run, out, stop_after=1)
    longer = tiny_run(smoke_dataset, "teacher", steps=2)
    train(longer, folder(tmp_path, longer), restart=True)
    with pytest.raises(CheckpointError, match="init: "):
        train(run, out)
    train(run, out, restart=True)
    train(run, out)  # complete
    train(first, folder(tmp_path, first), restart=True)
    with pytest.raises(CheckpointError, match="init: "):
        train(run, out)
