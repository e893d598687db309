"""CRKD's student and teacher on the simulated data set: they train, are stored and detect, one teaches the other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from train_case import folder, tiny_run

from bevkd.config import load_model
from bevkd.data import FrameDataset, collate
from bevkd.train import load_detector, train
from bevkd.train.log import read_log
from bevkd.train.predict import detect


@pytest.fixture(scope="module")
def trained(smoke_dataset: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with a teacher of LiDAR and cameras."""
    root = tmp_path_factory.mktemp("crkd")
    run = tiny_run(smoke_dataset, "teacher", model=load_model("fusion_gated", "smoke")[0], steps=2)
    train(run, folder(root, run))
    return root


def test_the_student_learns_from_radar_and_from_the_teacher(smoke_dataset: Any, trained: Path) -> None:
    model = load_model("camera_radar", "smoke", changes={"radar": {"calibration": 3}})[0]
    data = {"radar_sweeps": 1}
    for name, more in (("student", {}), ("taught", {"teacher": "teacher", "method": "dense"})):
        run = tiny_run(smoke_dataset, name, model=model, data=data, steps=2, teacher_mode="live", **more)
        detector, stored = load_detector(train(run, folder(trained, run)))
        assert stored == run
        losses = read_log(folder(trained, run) / "log.jsonl")[-1]["losses"]
        assert any(term.startswith("kd_") for term in losses) == (name == "taught")
        frames = FrameDataset(run.data, run.model, "val", train=False, seed=0)
        assert frames.reads.sensors == ("camera", "radar")
        found = detect(detector, frames)
        assert set(found) == set(frames.tokens)
        outputs = detector(collate([frames.get(0, 0)]).to("cpu"))
        for sensor in ("camera", "radar"):
            assert outputs.feature(f"gated.{sensor}").shape == outputs.feature(sensor).shape
        assert float(outputs.feature("radar.raw").detach().abs().sum()) > 0
