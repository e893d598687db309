"""Runs that start from others, and snapshots, in the plan."""

from __future__ import annotations

import re
from pathlib import Path

import yaml
from workflow_case import copy_repository, jobs, snakemake, with_fake_launcher

ROWS = {
    "defaults": {"dataset": "nuscenes_sim"},
    "runs": [
        {"id": "stage_one", "model": "camera", "seeds": [0, 1, 2], "target": "demand"},
        # Further training with a teacher, and its control: further training alone.
        {
            "id": "stage_two", "model": "camera", "seeds": [1, 2], "target": "demand", "init": {"run": "stage_one"},
            "teacher": "lidar_long", "method": {"kind": "unidistill"}, "set": {"train": {"snapshots": 3}},
        },
        {
            "id": "stage_control", "model": "camera", "seeds": [2], "target": "demand",
            "init": {"run": "stage_one", "seed": 1, "parts": ["camera"]}, "set": {"train": {"snapshots": 3}},
        },
    ],
}  # fmt: skip
FIGURE = {
    "name": "stages",
    "kind": "training_curves",
    "title": "Stages",
    "caption": "mAP over the second stage.",
    "target": "extended",
    "curves": [{"label": "teacher", "run": "stage_two"}, {"label": "control", "run": "stage_control"}],
}


def test_the_plan_follows_starting_weights_and_snapshots(tmp_path: Path) -> None:
    folder = with_fake_launcher(copy_repository(tmp_path))
    (folder / "config" / "experiments" / "stages.yaml").write_text(yaml.safe_dump(ROWS))
    (folder / "config" / "figures" / "stages.yaml").write_text(yaml.safe_dump(FIGURE))
    options = ("--cores", "2", "--config", "scale=smoke")
    plan = snakemake(folder, "figure_stages", "--dry-run", *options)
    counts = jobs(plan)
    trained = set(re.findall(r"output: results/runs/smoke/(\w+)/seed(\d+)/model.pt", plan))
    assert trained == {
        ("lidar_long", "0"),
        *(("stage_one", seed) for seed in "12"),
        *(("stage_two", seed) for seed in "12"),
        ("stage_control", "2"),
    }
    assert (counts["evaluate"], counts["evaluate_snapshot"]) == (3, 6)
    assert re.search(r"estimated cost: 6 of 6 trainings to do", plan)
    assert "input: data/index/nuscenes_sim/smoke/frames.parquet, results/runs/smoke/stage_one/seed1/model.pt" in plan

    few = snakemake(folder, "figure_stages", "--dry-run", *options, "seeds=1")
    trained = set(re.findall(r"output: results/runs/smoke/(\w+)/seed(\d+)/model.pt", few))
    assert trained == {("lidar_long", "0"), ("stage_one", "1"), ("stage_two", "1"), ("stage_control", "2")}
