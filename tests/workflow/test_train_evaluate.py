"""From trained weights to submission and metrics on simulated data."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from train_case import folder, tiny_model, tiny_run

from bevkd.data import FrameDataset
from bevkd.errors import CheckpointError, ConfigError
from bevkd.eval.nuscenes import DetectionConfig, evaluate_files
from bevkd.io import read_json
from bevkd.models.heads.center_settings import CenterDecodeSettings
from bevkd.train import evaluate_run, train
from bevkd.train.overfit import overfit
from bevkd.train.predict import predict


def test_submission_and_metrics(smoke_dataset: Any, tmp_path: Path) -> None:
    run = tiny_run(smoke_dataset, steps=30, model=tiny_model("lidar"))
    out = folder(tmp_path, run)
    train(run, out)
    summary = evaluate_run(out, "val")
    submission = read_json(out / "predictions_val.json")
    frames = FrameDataset(run.data, run.model, "val", train=False, seed=0)
    assert list(submission["results"]) == frames.tokens
    assert submission["meta"] == {
        "use_camera": False,
        "use_lidar": True,
        "use_radar": False,
        "use_map": False,
        "use_external": False,
    }
    boxes = [box for found in submission["results"].values() for box in found]
    assert boxes
    metrics = read_json(out / "metrics_val.json")
    assert metrics["mean_ap"] == summary["mean_ap"] > 0
    assert metrics["cfg"]["class_range"]["car"] == 25.0  # data.max_range
    official = evaluate_files(
        run.data.root, run.data.version, "val", out / "predictions_val.json", tmp_path / "m.json", DetectionConfig()
    )
    assert official.config.class_range["car"] == 50
    # Detections lie where the vehicle is: every box within the reach of the grid around its frame's ego pose.
    for token, pose in zip(frames.tokens, frames.global_from_ego, strict=True):
        for box in submission["results"][token]:
            assert np.abs(np.array(box["translation"])[:2] - pose[:2, 3]).max() < 25.6 * 2**0.5 + 2
    before = (out / "predictions_val.json").read_bytes()
    predict(out, "val", out / "again.json", batch_size=3)
    again = json.loads((out / "again.json").read_text())
    assert again["results"].keys() == json.loads(before)["results"].keys()


def test_frames_without_detections_are_present(smoke_dataset: Any, tmp_path: Path) -> None:
    model = replace(tiny_model("lidar"), decode=CenterDecodeSettings(score_threshold=0.999))
    run = tiny_run(smoke_dataset, steps=1, model=model)
    train(run, folder(tmp_path, run))
    summary = evaluate_run(folder(tmp_path, run), "val")
    results = read_json(folder(tmp_path, run) / "predictions_val.json")["results"]
    assert len(results) == 6
    assert all(found == [] for found in results.values())
    assert summary["mean_ap"] == 0


def test_bad_requests(smoke_dataset: Any, tmp_path: Path) -> None:
    run = tiny_run(smoke_dataset, steps=1)
    with pytest.raises(CheckpointError, match="no trained model"):
        evaluate_run(folder(tmp_path, run), "val")
    train(run, folder(tmp_path, run))
    with pytest.raises(ConfigError, match="vla"):
        evaluate_run(folder(tmp_path, run), "vla")
    assert not list(folder(tmp_path, run).glob("*vla*"))


@pytest.mark.slow
def test_overfit_two_simulated_frames(smoke_dataset: Any, tmp_path: Path) -> None:
    base = tiny_model("lidar")
    model = replace(base, grid=replace(base.grid, cell=0.8), lidar=replace(base.lidar, cell=0.4))
    run = tiny_run(smoke_dataset, "overfit", model=model, steps=250, log_every=50)
    result = overfit(run, folder(tmp_path, run), frames=2)
    assert sum(result.boxes.values()) > 10
    assert result.mean_ap > 0.8, result.ap
