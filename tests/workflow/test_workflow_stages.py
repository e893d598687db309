"""Runs that start from others, and snapshots, in the plan."""

from __future__ import annotations

import re
from pathlib import Path

import yaml
from workflow_case import jobs, small_copy, snakemake, with_fake_launcher

RUNS = {
    "defaults": {"dataset": "nuscenes_sim", "model": "camera", "target": "extended"},
    "runs": {
        "stage_one": {"seeds": [0, 1, 2]},
        # Further training with a teacher, and its control: further training alone.
        "stage_two": {
            "seeds": [1, 2], "init": {"run": "stage_one"}, "teacher": "lidar_base", "method": {"kind": "unidistill"},
            "set": {"train": {"snapshots": 3}},
        },
        "stage_control": {
            "seeds": [2], "init": {"run": "stage_one", "seed": 1, "parts": ["camera"]},
            "set": {"train": {"snapshots": 3}},
        },
    },
}  # fmt: skip
FIGURE = {
    "kind": "training_curves",
    "title": "Stages",
    "caption": "mAP over the second stage.",
    "target": "extended",
    "curves": {"teacher": "stage_two", "control": "stage_control"},
}


def test_the_plan_follows_starting_weights_and_snapshots(tmp_path: Path) -> None:
    folder = with_fake_launcher(small_copy(tmp_path))
    paper = folder / "config" / "papers" / "stages"
    paper.mkdir()
    for stem, content in (
        ("recipe", {"like": "unidistill"}),
        ("runs", RUNS),
        ("figures", {"figures": {"stages": FIGURE}}),
    ):
        (paper / f"{stem}.yaml").write_text(yaml.safe_dump(content))
    options = ("--cores", "2", "--config", "scale=smoke")
    plan = snakemake(folder, "figure_stages", "--dry-run", *options)
    counts = jobs(plan)
    trained = set(re.findall(r"output: results/runs/smoke/(\w+)/seed(\d+)/model.pt", plan))
    assert trained == {
        ("lidar_base", "0"),
        ("image_weights", "0"),
        *(("stage_one", seed) for seed in "12"),
        *(("stage_two", seed) for seed in "12"),
        ("stage_control", "2"),
    }
    assert (counts["evaluate"], counts["evaluate_snapshot"]) == (3, 6)
    assert re.search(r"estimated cost: 7 of 7 trainings to do", plan)
    assert "input: data/index/nuscenes_sim/smoke/frames.parquet, results/runs/smoke/stage_one/seed1/model.pt" in plan

    few = snakemake(folder, "figure_stages", "--dry-run", *options, "seeds=1")
    trained = set(re.findall(r"output: results/runs/smoke/(\w+)/seed(\d+)/model.pt", few))
    teacher_and_weights = {("lidar_base", "0"), ("image_weights", "0")}
    assert trained == teacher_and_weights | {("stage_one", "1"), ("stage_two", "1"), ("stage_control", "2")}
