"""The workflow where blanks, quotes, dollars and other alphabets are in its paths, and with ids that are commands."""

from __future__ import annotations

from pathlib import Path

import pytest
from workflow_case import copy_repository, jobs, run, snakemake

FOLDER = "ein 'Ort' \"mit\" $HOME & $(touch X) ünd `touch X`; ключ"
INDEX = "data/index/kitti 'sim' $HOME $(touch Y) \"ö\"; `touch Y`"


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = copy_repository(tmp_path_factory.mktemp("names") / FOLDER)
    scale = folder / "config" / "scales" / "smoke.yaml"
    text = scale.read_text()
    quoted = INDEX.replace("'", "''")
    assert "index: data/index/kitti_sim/smoke" in text
    scale.write_text(text.replace("index: data/index/kitti_sim/smoke", f"index: '{quoted}'", 1))
    return folder


def touched(folder: Path) -> list[Path]:
    """Files that a text would have made, had a shell read it."""
    return [path for path in folder.parent.rglob("*") if path.name in ("X", "Y")]


@pytest.mark.slow
def test_the_smoke_workflow_runs_where_paths_look_like_commands(clone: Path) -> None:
    plan = snakemake(clone, "datasets", "image_weights", "--cores", "2", "--dry-run", "--config", "scale=smoke")
    assert jobs(plan)["convert"] == 4
    snakemake(clone, "--cores", "2", "--config", "scale=smoke", "--", f"{INDEX}/frames.parquet")
    assert (clone / INDEX / "frames.parquet").is_file()
    assert (clone / "data" / "kitti_sim" / "smoke" / "training").is_dir()
    assert list((clone / "results" / "logs" / "smoke" / "convert").rglob("*.log"))
    assert not touched(clone)


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("config/papers/unidistill/runs.yaml", "\nruns:\n", "\nruns:\n  'c$(touch X)': {dataset: kitti_sim}\n"),
        ("config/papers/unidistill/tables.yaml", "\ntables:\n", "\ntables:\n  '../../t': {title: t}\n"),
        ("config/datasets/nuscenes_sim.yaml", "version: v1.0-sim", "version: v1.0-sim$(touch X)"),
        ("config/config.yaml", "seeds: 0", "seeds: 0\nseeds: 1"),
        ("config/config.yaml", "scale: sim", "scale: ../../sim"),
        ("config/config.yaml", "gpus: auto", "gpus: -1"),
    ],
)
def test_hostile_ids_end_before_the_plan(clone: Path, file: str, old: str, new: str) -> None:
    path = clone / file
    before = path.read_text()
    if old not in before:
        pytest.fail(f"{file} does not hold {old!r}")
    path.write_text(before.replace(old, new, 1))
    try:
        scale = [] if "scale: " in old else ["--config", "scale=smoke"]
        done = run(clone, "snakemake", "--cores", "1", *scale, "--", "dataset", ok=False)
    finally:
        path.write_text(before)
    assert done.returncode != 0
    assert "Traceback" not in done.stdout
    assert "Job stats" not in done.stdout
    assert not touched(clone)
