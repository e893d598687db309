"""BEVDet4D and BEVDepth on the simulated data set: they train on two sets of images, are stored, and detect."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from train_case import folder, tiny_run

from bevkd.bench.profile import profile_model
from bevkd.config import load_model
from bevkd.data import FrameDataset, PastCameras, collate
from bevkd.data.past_cameras import past_of
from bevkd.train import load_detector, train
from bevkd.train.log import read_log
from bevkd.train.predict import detect

PAST = {"past": {"train": [1, 1], "test": 1}}  # the one earlier set of the simulator


@pytest.mark.parametrize("name", ["bevdet4d", "bevdepth"])
def test_two_sets_of_images_teach(name: str, smoke_dataset: Any, tmp_path: Path) -> None:
    model = load_model(name, "smoke")[0]
    run = tiny_run(smoke_dataset, name, model=model, data=PAST, steps=2)
    detector, stored = load_detector(train(run, folder(tmp_path, run)))
    assert stored == run
    losses = read_log(folder(tmp_path, run) / "log.jsonl")[-1]["losses"]
    assert ("depth" in losses) == (name == "bevdepth")
    frames = FrameDataset(run.data, run.model, "val", train=False, seed=0)
    assert frames.reads.names == ("camera", "camera_past")
    found = detect(detector, frames)
    assert set(found) == set(frames.tokens)
    batch = collate([frames.get(0, 0), frames.get(1, 0)]).to("cpu")
    past = past_of(batch)
    assert isinstance(past, PastCameras)
    assert past.seconds.tolist() == pytest.approx([5 / 12, 5 / 12], abs=0.02)
    assert not past.repeated.any()
    with torch.inference_mode():
        now, before = detector(batch, until="low").low.chunk(2, dim=1)
        past.images = torch.zeros_like(past.images)
        same, other = detector(batch, until="low").low.chunk(2, dim=1)
    assert torch.equal(now, same)
    assert not torch.equal(before, other)


def test_what_they_cost_is_measured() -> None:
    once, twice, depth = (profile_model(name, "smoke", rounds=1) for name in ("bevdet", "bevdet4d", "bevdepth"))
    assert once["params"] < twice["params"] < depth["params"]
    assert 1.2 * once["macs_dense2d"] < twice["macs_dense2d"] < depth["macs_dense2d"]
