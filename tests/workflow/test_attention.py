"""Where trained detectors look: the command, the figure, and the plan of a table."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from train_case import folder, tiny_model, tiny_run
from workflow_case import copy_repository, jobs, snakemake

from bevkd.cli import main
from bevkd.data import collate
from bevkd.errors import CheckpointError, ConfigError, DataError
from bevkd.eval.attention import likeness, read_attention
from bevkd.report.figure_kinds import AttentionMaps, CurveSpec
from bevkd.report.figures import draw
from bevkd.report.runs import Runs
from bevkd.report.style import TRUTH
from bevkd.train import train
from bevkd.train.attention import measure_attention
from bevkd.train.checkpoint import load_detector
from bevkd.train.predict import test_frames as frames_of


@pytest.fixture(scope="module")
def trained(smoke_dataset: Any, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """A LiDAR detector and a camera detector."""
    root = tmp_path_factory.mktemp("attention")
    both = [
        tiny_run(smoke_dataset, "lidar_base", steps=3),
        tiny_run(smoke_dataset, "camera_base", model=tiny_model("camera"), steps=3),
    ]
    for run in both:
        train(run, folder(root, run))
    return Runs(root / "results/runs", both[0].scale, {run.run: run.row for run in both})


def test_attention_of_a_trained_run(trained: Runs, tmp_path: Path) -> None:
    """By the formula, frame by frame, for each frame of the split."""
    out = trained.folder("lidar_base", 0)
    found = measure_attention(out, "val", tmp_path / "some" / "a.npz")
    read = read_attention(tmp_path / "some" / "a.npz")
    assert np.array_equal(read.values, found.values)
    detector, run = load_detector(out / "model.pt")
    frames = frames_of(run, "val")
    assert read.tokens == list(frames.tokens)
    assert read.grid == detector.grid
    for i in (0, len(frames) - 1):
        with torch.inference_mode():
            activity = detector(collate([frames.get(i, 0)])).high[0].double().abs().mean(0) / 0.5
        wanted = activity.numel() * activity.flatten().softmax(0).view_as(activity)
        assert np.allclose(read.values[i], wanted.numpy(), rtol=1e-3)
    assert np.allclose(read.values.mean((1, 2)), 1, atol=1e-4)
    again = measure_attention(out, "val", tmp_path / "again.npz", batch_size=1)
    assert np.allclose(again.values, read.values, rtol=1e-3)
    other = measure_attention(trained.folder("camera_base", 0), "val", tmp_path / "other.npz")
    assert likeness(read, other).far < 0.99
    assert likeness(read, again).far > 0.99


def test_what_has_no_attention_says_so(trained: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, file = trained.folder("lidar_base", 0), tmp_path / "none.npz"
    with pytest.raises(ConfigError, match="no_such_split"):
        measure_attention(out, "no_such_split", file)
    with pytest.raises(CheckpointError):
        measure_attention(tmp_path, "val")
    detector, run = load_detector(out / "model.pt")
    with torch.no_grad():
        for weight in detector.parameters():
            weight.fill_(torch.nan)
    monkeypatch.setattr("bevkd.train.attention.load_detector", lambda _: (detector, run))
    with pytest.raises(DataError, match=rf"\(high\) is not finite.*token={frames_of(run, 'val').tokens[0]}"):
        measure_attention(out, "val", file)
    features = {name: info for name, info in detector.spec.features.items() if name != "high"}
    detector.spec = replace(detector.spec, features=features)
    with pytest.raises(ConfigError, match="'lidar_base': its network has no BEV map 'high'"):
        measure_attention(out, "val", file)
    assert not file.exists()


def test_the_command_writes_what_tables_read(
    trained: Runs, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(trained.root.parents[1])
    file = trained.file("attention", "camera_base", 0, "report")
    assert main(["attention", "--run", "camera_base", "--scale", trained.scale, "--split", "val"]) == 0
    said = capsys.readouterr().out
    assert f"wrote {file.relative_to(trained.root.parents[1])}" in said
    keys = ["attention_entropy", "attention_near", "attention_centre_area"]
    (found,) = trained.values("camera_base", "report", keys).values()
    assert 0 < found["attention_entropy"] <= 100
    shares = f"{found['attention_near']:.1f} % on the {found['attention_centre_area']:.1f} % of the area"
    assert f"entropy {found['attention_entropy']:.1f} % of a uniform map, {shares}" in said


def test_the_figure_shows_attention(trained: Runs, tmp_path: Path) -> None:
    columns = (CurveSpec("LiDAR", "lidar_base"), CurveSpec("Camera", "camera_base"))
    figure = draw(AttentionMaps("f", "", "", kind="attention_maps", columns=columns, frames=2), trained)
    shown = [axes for axes in figure.axes if axes.images]
    assert len(shown) == 4
    assert len(figure.axes) == 5, "one colour bar"
    assert [axes.get_title() for axes in shown] == ["LiDAR", "Camera", "", ""]
    found = measure_attention(trained.folder("lidar_base", 0), "val", tmp_path / "a.npz")
    for axes in shown:
        (image,) = axes.images
        assert (image.norm.vmin, image.norm.vmax, image.get_cmap().name) == (0, 1, "viridis")
        assert np.asarray(image.get_array()).max() == 1
        assert any(patch.get_edgecolor()[:3] == pytest.approx(_rgb(TRUTH)) for patch in axes.patches)
    # Forward is up, left is left: the cell at the lowest x and y is at the bottom on the right.
    upright = [np.asarray(axes.images[0].get_array())[:, ::-1].T for axes in shown[::2]]
    for values in upright:
        assert any(np.allclose(values, one / one.max(), rtol=1e-3, atol=1e-6) for one in found.values)


def _rgb(colour: str) -> list[float]:
    return [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]


def test_the_workflow_looks_once_at_each_run(tmp_path: Path) -> None:
    """A table of metrics of a run and of pairs, of runs that there are."""
    clone = copy_repository(tmp_path)
    mine = clone / "config" / "papers" / "mine"
    mine.mkdir()
    table = {
        "title": "T",
        "caption": "c",
        "columns": ["attention_near", "attention_like_far"],
        "rows": [{"label": run, "run": run, "against": "lidar_base"} for run in ("camera_base", "lidar_base")],
    }
    (mine / "tables.yaml").write_text(yaml.safe_dump({"tables": {"mine_7": table}}))
    options = ("--cores", "1", "--dry-run", "--printshellcmds", "--config", "scale=smoke", "seeds=1")
    plan = snakemake(clone, *options, "--", "table_mine_7")
    looked = re.findall(r"output: results/runs/smoke/(\w+/seed\d)/attention_val.npz", plan)
    assert {"camera_base/seed0", "lidar_base/seed0"} <= set(looked)
    assert {one.partition("/")[0] for one in looked} == {"camera_base", "lidar_base"}
    counts = jobs(plan)
    assert counts["attention"] == len(set(looked)) == len(looked)
    assert counts["table"] == 1
    assert "evaluate" not in counts
    assert re.search(r"attention --run camera_base --scale smoke --seed 0 --split val ", plan)
