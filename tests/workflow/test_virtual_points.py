"""The model `mvp` on the simulated data set: it trains, is stored and detects, teaches; and the workflow's rule."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from train_case import folder, tiny_run
from workflow_case import copy_repository, jobs, snakemake, with_fake_launcher

from bevkd.config import load_model
from bevkd.data import FrameDataset, convert_nuscenes
from bevkd.data.virtual.make import make_virtual_points
from bevkd.errors import DataError
from bevkd.sim.masks import simulate_masks
from bevkd.train import load_detector, train
from bevkd.train.log import read_log
from bevkd.train.predict import detect

ROWS = """
defaults: {dataset: nuscenes_sim, seeds: [0]}
runs:
  mvp_teacher: {model: mvp, doc: LiDAR and virtual points}
  taught:
    model: camera
    teacher: mvp_teacher
    method: {kind: dense}
    doc: camera student of it
  lidar_alone: {model: lidar_pillar, target: extended, doc: without virtual points}
"""


@dataclass(frozen=True)
class Data:
    root: Path
    version: str
    index: Path


@pytest.fixture(scope="module")
def data(smoke_dataset: Any, tmp_path_factory: pytest.TempPathFactory) -> Data:
    """A copy of the simulated data set with virtual points."""
    where = tmp_path_factory.mktemp("mvp")
    shutil.copytree(smoke_dataset.root, where / "data")
    index = convert_nuscenes(where / "data", smoke_dataset.version, where / "index")
    simulate_masks(where / "data")
    make_virtual_points(index, where / "data")
    return Data(where / "data", smoke_dataset.version, index)


def test_it_trains_and_teaches(data: Data, smoke_dataset: Any, tmp_path: Path) -> None:
    model = load_model("mvp", "smoke")[0]
    run = tiny_run(data, "teacher", model=model, steps=2)
    detector, stored = load_detector(train(run, folder(tmp_path, run)))
    assert stored == run
    assert read_log(folder(tmp_path, run) / "log.jsonl")[-1]["losses"]["total"] > 0
    frames = FrameDataset(run.data, run.model, "val", train=False, seed=0)
    assert frames.reads.names == ("lidar", "lidar_virtual")
    assert set(detect(detector, frames)) == set(frames.tokens)

    alone = load_model("lidar_pillar", "smoke")[0]
    student = tiny_run(data, "taught", model=alone, steps=2, teacher="teacher", method="dense", teacher_mode="live")
    train(student, folder(tmp_path, student))
    losses = read_log(folder(tmp_path, student) / "log.jsonl")[-1]["losses"]
    assert any(term.startswith("kd_") for term in losses)

    bare = tiny_run(smoke_dataset, "bare", model=model, steps=2)
    with pytest.raises(DataError, match="no frame has virtual points"):
        train(bare, folder(tmp_path, bare))


def test_the_rule_makes_them_where_a_network_reads_them(tmp_path: Path) -> None:
    clone = with_fake_launcher(copy_repository(tmp_path))
    paper = clone / "config" / "papers" / "mine"
    paper.mkdir()
    (paper / "runs.yaml").write_text(ROWS)

    def plan(target: str) -> str:
        return snakemake(clone, "--cores", "2", "--dry-run", "--config", "scale=smoke", "--", target)

    marker = "data/index/nuscenes_sim/smoke_virtual/manifest.json"
    taught = plan("run_taught")
    counts = jobs(taught)
    assert (counts["simulate"], counts["convert"], counts["virtual_points"]) == (1, 1, 1)
    assert (counts["train"], counts["cache_teacher"]) == (2, 1)
    rules = re.findall(rf"rule (\w+):\n(?:.*\n)*?    input: (.*{marker}.*)\n", taught)
    readers = {rule for rule, _ in rules}
    assert {"train", "cache_teacher"} <= readers, taught
    assert "no cost is known" not in taught
    assert marker in plan("dataset")
    for target in ("run_lidar_alone", "run_camera_base"):
        assert "virtual_points" not in jobs(plan(target))

    snakemake(clone, "--cores", "2", "--config", "scale=smoke", "--", "run_mvp_teacher")
    calls = [json.loads(line)["command"] for line in (clone / "calls.jsonl").read_text().splitlines()]
    assert calls == ["simulate", "convert", "virtual-points", "train", "predict"]
