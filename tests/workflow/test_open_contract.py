"""A radar encoder with inputs of its own, a head with its own output, a method on voxels, a two-stage detector: they
train, distil and decode without an edit of bevkd.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from open_stubs import Before, GatedSettings, OneBox, OneBoxSettings, RadarSettings, Refined, registered
from train_case import folder, tiny_model, tiny_run

from bevkd.config import ModelConfig, RunConfig, parse, to_plain
from bevkd.data import FrameDataset, Reads, collate, reads_of
from bevkd.data.reads import Lidar
from bevkd.errors import ConfigError, FeatureError
from bevkd.models.detector import build_detector
from bevkd.train import load_detector, train
from bevkd.train.log import read_log
from bevkd.train.predict import detect


@pytest.fixture(autouse=True)
def stubs() -> Iterator[None]:
    with registered():
        yield


def radar_model() -> ModelConfig:
    """Camera and stub radar, with the stub head."""
    base = tiny_model("camera")
    return replace(
        base,
        sensors=("camera", "radar"),
        radar=RadarSettings(),
        fuser=GatedSettings(),
        head=OneBoxSettings(),
        loss=None,
        decode=None,
    )


def point_model() -> ModelConfig:
    return replace(tiny_model("lidar"), kind="two_stage_points")


def learn(root: Path, run: RunConfig) -> tuple[Any, dict[str, float]]:
    """Train two steps; the detector and the losses of the last one."""
    out = folder(root, run)
    detector, stored = load_detector(train(run, out))
    assert stored == run
    return detector, read_log(out / "log.jsonl")[-1]["losses"]


def student(dataset: Any, name: str, model: ModelConfig, **options: Any) -> RunConfig:
    return tiny_run(dataset, name, model=model, steps=2, teacher="teacher", method="on_voxels", **options)


def test_settings_survive_a_file() -> None:
    for model in (radar_model(), point_model()):
        assert parse(ModelConfig, to_plain(model), "model") == model


def test_what_is_read_follows_from_the_encoders(smoke_dataset: Any) -> None:
    run = tiny_run(smoke_dataset, "reads", model=radar_model())
    reads = reads_of(run.model, run.data)
    assert reads.names == ("camera", "radar_states", "images_before")  # what needs others comes last
    assert reads.sensors == ("camera", "radar")
    assert reads_of(point_model(), run.data) == Reads.of(Lidar(run.data.lidar_sweeps))
    frames = FrameDataset(run.data, run.model, "train", train=True, seed=0)
    batch = collate([frames.get(i, 0) for i in range(2)]).to("cpu")
    assert batch.points is None
    states = batch.extra["radar_states"]
    assert states["points"].shape == (len(states["frame"]), 11)
    assert set(states["frame"].tolist()) == {0, 1}
    assert (states["points"][:, 3:].sum(1) == 1).all()
    before = batch.extra["images_before"]
    assert isinstance(before, Before)
    assert before.colour.shape == (2, 6, 3)
    # The first frame of a scene has none before it, and its own ones stand in; others look back.
    ages = [collate([sample]).extra["images_before"].age.mean() for sample in frames]
    assert max(ages) > 0.04


def test_a_radar_student_with_its_own_head_learns_from_voxels(smoke_dataset: Any, trained: Path) -> None:
    run = student(smoke_dataset, "radar", radar_model())
    detector, losses = learn(trained, run)
    assert {"centre", "quiet", "kd_mean_cell"} <= losses.keys()
    assert losses["total"] == pytest.approx(losses["det"] + 2.0 * losses["kd_mean_cell"], rel=1e-5)
    assert detector.spec.sensors == ("camera", "radar")
    assert detector.spec.info("radar.count").channels == 1
    frames = FrameDataset(run.data, run.model, "val", train=False, seed=0)
    found = detect(detector, frames)
    assert {len(boxes) for boxes in found.values()} == {1}
    outputs = detector(collate([frames.get(0, 0)]).to("cpu"))
    assert isinstance(outputs.head, OneBox)
    assert torch.equal(outputs.feature("one"), outputs.head.centre)
    assert tuple(outputs.sensors) == ("camera", "radar")
    for name in ("camera", "radar", "radar.count"):
        gated, plain = outputs.feature(f"gated.{name}"), outputs.feature(name)
        assert gated.shape[1] == detector.spec.channels(f"gated.{name}") == plain.shape[1]
        assert (gated.abs() <= plain.abs()).all()
    assert outputs.low.shape[1] == 12


def test_a_live_teacher_reads_what_it_was_trained_on(smoke_dataset: Any, trained: Path) -> None:
    """The student reads no LiDAR, the teacher one sweep, whatever the student's settings say."""
    cached = student(smoke_dataset, "radar_cached", radar_model(), data={"lidar_sweeps": 0})
    live = student(smoke_dataset, "radar_live", radar_model(), data={"lidar_sweeps": 0}, teacher_mode="live")
    one, other = learn(trained, cached)[1], learn(trained, live)[1]
    assert one["kd_mean_cell"] == pytest.approx(other["kd_mean_cell"], rel=1e-3)  # half precision in the cache


def test_a_two_stage_detector_is_no_special_case(smoke_dataset: Any, trained: Path) -> None:
    plain = tiny_run(smoke_dataset, "points", model=point_model(), steps=2)
    _, losses = learn(trained, plain)
    assert {"foreground", "box"} <= losses.keys()
    run = student(smoke_dataset, "points_taught", point_model())
    run = replace(run, row=replace(run.row, method=replace(run.row.method, options={"feature": "points"})))
    detector, losses = learn(trained, run)
    assert losses["kd_mean_cell"] > 0
    frames = FrameDataset(run.data, run.model, "val", train=False, seed=0)
    assert all(len(boxes) == 1 for boxes in detect(detector, frames).values())
    batch = collate([frames.get(0, 0)])
    early = detector(batch, until="points")
    assert set(early.features) == {"points"}
    with pytest.raises(FeatureError, match="not run"):
        _ = early.head
    assert isinstance(detector(batch).head, Refined)
    assert detector.spec.last_stage(["points", "rois"]) == "proposals"


def test_heads_without_dense_maps_say_so(smoke_dataset: Any, trained: Path) -> None:
    run = student(smoke_dataset, "dense", radar_model())
    outputs = build_detector(run.model)(
        collate([FrameDataset(run.data, run.model, "val", train=False, seed=0).get(0, 0)]).to("cpu")
    )
    for ask in (outputs.heatmaps, outputs.regression_maps, lambda: outputs.heads, lambda: outputs.class_order):
        with pytest.raises(FeatureError, match="OneBox has no dense maps"):
            ask()
    for method in ("dense", "unidistill"):
        with pytest.raises(ConfigError):
            train(replace(run, row=replace(run.row, method=replace(run.row.method, kind=method))), trained / method)
