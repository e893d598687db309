"""From trained weights to submission and metrics on simulated data."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from train_case import folder, tiny_model, tiny_run

from bevkd import progress
from bevkd.cli import main
from bevkd.data import FrameDataset, convert_nuscenes
from bevkd.errors import CheckpointError, ConfigError, DataError
from bevkd.eval.nuscenes import DetectionConfig, evaluate_files
from bevkd.eval.nuscenes.splits import official_splits
from bevkd.io import read_json, write_json
from bevkd.models.heads.center_settings import CenterDecodeSettings
from bevkd.report.metrics import value_of
from bevkd.train import evaluate_run, train
from bevkd.train.breakdown import break_down_run
from bevkd.train.overfit import overfit
from bevkd.train.predict import apply_run, predict


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


def test_a_run_is_broken_down(
    smoke_dataset: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the detections that lie there, without another look at the network; its metrics are left alone."""
    run = tiny_run(smoke_dataset, steps=30, model=tiny_model("lidar"))
    out = folder(tmp_path, run)
    train(run, out)
    summary = evaluate_run(out, "val")
    before = {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}
    where = ["breakdown", "--run", run.run, "--scale", "smoke", "--runs", str(out.parents[2]), "--split", "val"]
    assert main([*where, "--range-bins", "0,10,15,25"]) == 0
    file = out / "breakdown_val.json"
    text = capsys.readouterr().out
    assert "by lighting" in text
    assert f"breakdown: {file}" in text
    found = read_json(file)
    assert [name.partition(":")[2] for name in found] == ["0-10", "10-15", "15-25", "rainy", "sunny", "night", "day"]
    boxes = {
        kind: sum(group["boxes"] for name, group in found.items() if kind in name) for kind in ("range", "weather")
    }
    assert boxes["range"] == boxes["weather"] > 0, "data.max_range is where the bins end"
    assert found["weather:rainy"]["frames"] + found["weather:sunny"]["frames"] == summary["frames"]
    assert 0 < value_of(found, "mAP@range:0-10", file) < value_of(found, "mAP_present@range:0-10", file) + 1e-9
    written = file.read_bytes()
    file.unlink()
    assert {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()} == before

    (out / "predictions_val.json").unlink()
    content, place = break_down_run(out, "val", (0.0, 10.0, 15.0, 25.0))
    assert (content.keys(), place, file.read_bytes()) == (found.keys(), file, written)
    assert (out / "predictions_val.json").exists(), "detections that are gone are made again"
    with pytest.raises(ConfigError, match="no_such_split"):
        break_down_run(out, "no_such_split", (0.0, 25.0))
    with pytest.raises(ConfigError, match="rising"):
        break_down_run(out, "val", (25.0, 0.0))
    assert file.read_bytes() == written
    monkeypatch.setattr(
        "bevkd.train.breakdown.read_config", lambda _: replace(run, data=replace(run.data, kind="kitti"))
    )
    with pytest.raises(ConfigError, match="reads kitti: only metrics of nuScenes"):
        break_down_run(out, "val", (0.0, 25.0))


def test_frames_without_detections_are_present(smoke_dataset: Any, tmp_path: Path) -> None:
    model = replace(tiny_model("lidar"), decode=CenterDecodeSettings(score_threshold=0.999))
    run = tiny_run(smoke_dataset, steps=1, model=model)
    train(run, folder(tmp_path, run))
    text = io.StringIO()
    progress.show_on(Console(file=text, force_terminal=True, width=100, _environ={"TERM": "xterm"}))
    try:
        summary = evaluate_run(folder(tmp_path, run), "val")
    finally:
        progress.show_on(None)
    assert "6/6 frames" in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text.getvalue()), "a terminal sees how far it is"
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
    with pytest.raises(DataError, match=r"`bevkd convert --dataset nuscenes --root .* --out .*elsewhere"):
        apply_run(folder(tmp_path, run), "val", {"data": {"index": str(tmp_path / "elsewhere")}})


@pytest.mark.slow
def test_overfit_two_simulated_frames(smoke_dataset: Any, tmp_path: Path) -> None:
    base = tiny_model("lidar")
    model = replace(base, grid=replace(base.grid, cell=0.8), lidar=replace(base.lidar, cell=0.4))
    run = tiny_run(smoke_dataset, "overfit", model=model, steps=250, log_every=50)
    result = overfit(run, folder(tmp_path, run), frames=2)
    assert sum(result.boxes.values()) > 10
    assert result.mean_ap > 0.8, result.ap


@pytest.fixture(scope="module")
def test_set(smoke_dataset: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The simulated data set as `v1.0-test`: official scene names, tables of annotations that are empty; its index."""
    root = tmp_path_factory.mktemp("test_set")
    for name in ("samples", "sweeps", "maps"):
        if (smoke_dataset.root / name).exists():
            shutil.copytree(smoke_dataset.root / name, root / name, copy_function=os.link)
    tables = root / "v1.0-test"
    shutil.copytree(smoke_dataset.root / smoke_dataset.version, tables)
    for name in ("splits", "labelled", "simulation"):
        (tables / f"{name}.json").unlink()
    scenes = read_json(tables / "scene.json")
    for scene, name in zip(scenes, official_splits()["test"], strict=False):
        scene["name"] = name
    write_json(tables / "scene.json", scenes)
    for name in ("sample_annotation", "instance"):
        write_json(tables / f"{name}.json", [])
    convert_nuscenes(root, "v1.0-test", root / "index")
    return root


def test_a_trained_run_on_a_test_set(
    smoke_dataset: Any, test_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tiny_run(smoke_dataset, steps=1, model=tiny_model("lidar"))
    out = folder(tmp_path, run)
    train(run, out)
    where = ["predict", "--run", run.run, "--scale", "smoke", "--runs", str(out.parents[2]), "--split"]
    capsys.readouterr()
    assert main([*where, "val"]) == 0
    own = {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}
    text = capsys.readouterr().out
    assert "NDS" in text
    assert f"metrics: {out / 'metrics_val.json'}" in text

    index = ["--index", str(test_set / "index"), "--root", str(test_set)]
    assert main([*where, "test", *index]) == 0
    (results,) = (out / "applied").glob("index-*/predictions_test.json")
    assert f"no labels: results only, {results}" in capsys.readouterr().out
    assert not list(results.parent.glob("metrics*"))
    submission = read_json(results)
    frames = {sample["token"] for sample in read_json(test_set / "v1.0-test/sample.json")}
    assert submission["results"].keys() == frames
    assert submission["meta"] == {
        f"use_{name}": name == "lidar" for name in ("camera", "lidar", "radar", "map", "external")
    }
    assert sum(map(len, submission["results"].values())) > 0
    assert {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()} == own

    said = ["--set", f"data.index={test_set / 'index'}", "--set", f"data.root={test_set}"]
    assert main([*where, "test", *said, "--set", "data.version=v1.0-test", "--out", str(tmp_path / "o"), "-q"]) == 0
    assert capsys.readouterr().out == ""
    assert (tmp_path / "o/predictions_test.json").read_bytes() == results.read_bytes()

    assert main([*where, "test", "--set", "data.version=v1.0-test"]) == 2
    assert "is of version 'v1.0-sim', data.version is 'v1.0-test'" in capsys.readouterr().err
    assert main([*where, "val", *index]) == 2
    assert "has no split 'val'" in capsys.readouterr().err
    assert main([*where, "val", "--set", "data.max_range=10"]) == 0
    (near,) = set((out / "applied").glob("*/metrics_val.json"))
    assert read_json(near)["cfg"]["class_range"]["car"] == 10
    assert read_json(near)["frames"] == read_json(out / "metrics_val.json")["frames"] == 6
