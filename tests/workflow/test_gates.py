"""How much of a map lies in objects and on roads, before and after a gate; and what a run finds object by object."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from train_case import folder, tiny_model, tiny_run

from bevkd.cli import main
from bevkd.errors import CheckpointError, ConfigError
from bevkd.geometry import invert
from bevkd.models.fuser.gated_settings import GatedSettings
from bevkd.report.events import read_matches
from bevkd.report.figure_kinds import CurveSpec, Examples, GatedMaps
from bevkd.report.figures import draw
from bevkd.report.metrics import METRICS, value_of
from bevkd.report.runs import Runs
from bevkd.report.scenes import SceneReader, predict_frames
from bevkd.train import train
from bevkd.train.checkpoint import load_detector
from bevkd.train.gates import RoadCells, measure_gates, shares
from bevkd.train.matches import find_matches
from bevkd.train.predict import test_frames as frames_of
from bevkd.train.response import measure_response


@pytest.fixture(scope="module")
def gated(smoke_dataset: Any, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """A LiDAR + camera detector with gates, and a camera detector without."""
    root = tmp_path_factory.mktemp("gated")
    model = replace(tiny_model("lidar", "camera"), fuser=GatedSettings(out_channels=12))
    both = [tiny_run(smoke_dataset, "crkd_teacher", model=model, steps=3)]
    both += [tiny_run(smoke_dataset, "camera_base", model=tiny_model("camera"), steps=3)]
    for run in both:
        train(run, folder(root, run))
    return Runs(root / "results/runs", both[0].scale, {run.run: run.row for run in both})


def test_shares_by_hand() -> None:
    values = torch.zeros(3, 2, 2, 3)
    values[0, :, 0, 0] = torch.tensor([1.0, -2.0])
    values[0, 0, 1, 2] = 9.0
    values[1, 1] = -1.0
    inside = torch.zeros(3, 2, 3)
    inside[:, 0, 0] = 1
    found = shares(values, inside)
    assert found[:2].tolist() == pytest.approx([3 / 12, 1 / 6])
    assert found[2].isnan(), "nothing is shared out"


def test_gates_of_a_trained_run(gated: Runs, tmp_path: Path) -> None:
    found, file = measure_gates(gated.folder("crkd_teacher", 0), "val", tmp_path / "some" / "g.json")
    assert json.loads(file.read_text()) == found
    assert set(found) == {"frames", "area", "lidar", "camera"}
    for part in (found["area"], *(found[s][w] for s in ("lidar", "camera") for w in ("ungated", "gated"))):
        assert 0 < part["boxes"] < part["roads"] < 1
    for key, known in METRICS.items():
        if known.file == "gates":
            assert np.isfinite(value_of(found, key, file))
    gain = found["camera"]["gated"]["boxes"] - found["camera"]["ungated"]["boxes"]
    assert value_of(found, "boxes_gain", file) == pytest.approx(100 * gain)
    again, _ = measure_gates(gated.folder("crkd_teacher", 0), "val", tmp_path / "again.json", batch_size=1)
    assert again["camera"]["gated"]["boxes"] == pytest.approx(found["camera"]["gated"]["boxes"], rel=1e-3)
    with pytest.raises(ConfigError, match="'camera_base': its network gates no map"):
        measure_gates(gated.folder("camera_base", 0), "val", tmp_path / "none.json")
    with pytest.raises(ConfigError, match="no_such_split"):
        measure_gates(gated.folder("crkd_teacher", 0), "no_such_split", tmp_path / "none.json")
    with pytest.raises(CheckpointError):
        measure_gates(tmp_path, "val")
    assert not (tmp_path / "none.json").exists()


def test_roads_are_where_the_frame_is(gated: Runs, smoke_dataset: Any, tmp_path: Path) -> None:
    """A map with one road tile 20 m ahead of the vehicle: the cells there are road, no others."""
    detector, run = load_detector(gated.folder("crkd_teacher", 0) / "model.pt")
    frames, grid = frames_of(run, "val"), detector.grid
    root = tmp_path / "data"
    shutil.copytree(smoke_dataset.root / smoke_dataset.version, root / smoke_dataset.version)
    records = json.loads((root / smoke_dataset.version / "map.json").read_text())
    pose = frames.global_from_ego[0]
    ahead = (pose @ np.array([16.0, 4.0, 0, 1]))[:2]
    for record in records:
        with Image.open(smoke_dataset.root / record["filename"]) as image:
            pixels = np.zeros(image.size[::-1], dtype=np.uint8)
        row, column = len(pixels) - 1 - int(ahead[1] / 0.1), int(ahead[0] / 0.1)
        pixels[max(0, row - 20) : row + 20, max(0, column - 20) : column + 20] = 255
        (root / record["filename"]).parent.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(root / record["filename"])
    frames.data = replace(frames.data, root=str(root))
    cells = RoadCells(frames, grid)
    assert cells.missing == ""
    iy, ix = np.nonzero(cells.of(0))
    x, y = grid.x_min + (ix + 0.5) * grid.cell, grid.y_min + (iy + 0.5) * grid.cell
    assert len(x) >= 3
    # A square of 4 m, turned by the heading of the vehicle, around (16, 4) in the ego frame.
    assert np.hypot(x - 16, y - 4).max() < 2.0 * np.sqrt(2) + 0.1
    at = (pose @ np.stack([x, y, np.zeros_like(x), np.ones_like(x)]))[:2].T
    assert np.abs(at - ahead).max() < 2.2
    assert (invert(pose) @ np.array([*at[0], pose[2, 3], 1]))[:2] == pytest.approx([x[0], y[0]], abs=0.3)


def test_a_data_set_without_maps_says_why(gated: Runs, smoke_dataset: Any, tmp_path: Path) -> None:
    root = tmp_path / "data"
    shutil.copytree(smoke_dataset.root, root, ignore=lambda at, names: [n for n in names if n == "maps"])
    where = gated.folder("crkd_teacher", 0)
    copy = tmp_path / "run"
    shutil.copytree(where, copy)
    detector, run = load_detector(copy / "model.pt")
    frames = frames_of(run, "val")
    frames.data = replace(frames.data, root=str(root))
    assert "map is missing" in RoadCells(frames, detector.grid).missing
    frames.index.facts["reader"] = "waymo"
    assert RoadCells(frames, detector.grid).missing == "data of waymo come without maps"


def test_matches_of_a_trained_run(gated: Runs, tmp_path: Path) -> None:
    out = gated.folder("crkd_teacher", 0)
    found, file = find_matches(out, "val")
    assert file == out / "matches_val.json"
    response = measure_response(out, "val", tmp_path / "r.json")
    assert found["annotated"] == response["annotations"]
    assert len(found["detections"]["score"]) == min(found["annotated"], response["detections"])
    assert found["false"] / (found["false"] + found["found"]) == response["false_share"]
    read = read_matches(gated, "crkd_teacher", 0, "report")
    assert len(read.false) == found["false"]
    assert np.all(np.diff(read.detections.score) <= 0)
    hit = np.flatnonzero(read.annotation >= 0)
    a, d = read.annotations.take(read.annotation[hit]), read.detections.take(hit)
    assert np.array_equal(a.frame, d.frame)
    assert np.array_equal(a.label, d.label)
    assert (np.hypot(*(a.box[:, :2] - d.box[:, :2]).T) < 2).all()
    with pytest.raises(ConfigError, match="no_such_split"):
        find_matches(out, "no_such_split")


def test_the_commands_write_what_tables_read(
    gated: Runs, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(gated.root.parents[1])
    for command in ("gates", "matches"):
        file = gated.file(command, "crkd_teacher", 0, "report")  # type: ignore[arg-type]
        file.unlink(missing_ok=True)
        arguments = ["--run", "crkd_teacher", "--scale", gated.scale, "--split", "val"]
        assert main([command, *arguments]) == 0
        assert f"wrote {file.relative_to(gated.root.parents[1])}" in capsys.readouterr().out
        assert file.exists()


def test_the_figures_of_gates_and_examples(gated: Runs) -> None:
    columns = (CurveSpec("Teacher", "crkd_teacher"),)
    figure = draw(GatedMaps("f", "", "", kind="gated_maps", columns=columns, frames=2), gated)
    images = [axes.images[0] for axes in figure.axes if axes.images]
    assert len(images) == 4
    config = gated.config("crkd_teacher")
    reader = SceneReader(config.data, config.model.grid.area)
    (token, *_) = reader.fullest("val", 1)
    names = ("camera", "gated.camera")
    seen = predict_frames(gated, "crkd_teacher", 0, [("val", token)], response=False, features=names)[0]
    for image, name in zip(images, names, strict=False):
        shown = np.asarray(image.get_array())
        values = seen.maps[name]
        assert shown.shape == values.shape[::-1]
        # Forward is up, left is left: the cell at x = -25.6 m and y = -25.6 m is at the bottom on the right.
        assert shown[0, -1] == values[0, 0]
        assert shown[-1, 0] == values[-1, -1]
        assert image.norm.vmin == np.percentile(values, 1)
    for run in ("crkd_teacher", "camera_base"):
        find_matches(gated.folder(run, 0), "val")
    curves = {"teacher": CurveSpec("T", "crkd_teacher"), "student": CurveSpec("S", "camera_base")}
    spec = Examples("f", "", "", kind="examples", distilled=CurveSpec("D", "crkd_teacher"), **curves)
    assert draw(spec, gated).get_figure() is not None
