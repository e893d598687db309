"""Tables of any split of a data set: what is planned for them, and what stops before the first job."""

from __future__ import annotations

from pathlib import Path

import yaml
from workflow_case import copy_repository, run, snakemake, with_fake_launcher

COLUMNS = ["mAP", "mAP@weather:rainy", "mAP@lighting:night", "frames@lighting:night"]


def with_tables(folder: Path, **split_of: str) -> Path:
    """A copy of the repository with further tables: name -> split."""
    path = copy_repository(folder) / "config" / "papers" / "datasets" / "tables.yaml"
    content = yaml.safe_load(path.read_text())
    for name, split in split_of.items():
        content["tables"][name] = {
            "title": "By weather and light",
            "caption": "A LiDAR detector.",
            "target": "extended",
            "split": split,
            "at": {"paper": {"split": "report"}},
            "columns": COLUMNS,
            "rows": [{"label": "LiDAR", "run": "lidar_base"}],
        }
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return folder


def test_the_runs_of_a_table_are_evaluated_and_broken_down_on_its_split(tmp_path: Path) -> None:
    folder = with_tables(tmp_path, by_conditions="conditions")
    plans = {
        scale: snakemake(folder, "table_by_conditions", "--dry-run", "--config", f"scale={scale}", "seeds=1")
        for scale in ("sim", "paper")
    }
    for scale, split in {"sim": "conditions", "paper": "val"}.items():
        files = [f"results/runs/{scale}/lidar_base/seed0/{kind}_{split}.json" for kind in ("metrics", "breakdown")]
        for file in files:
            assert f"output: {file}" in plans[scale]
        (table,) = [
            line
            for line in plans[scale].splitlines()
            if "results/" in line and "by_conditions.csv" in line and "output:" in line
        ]
        wanted = plans[scale].partition(table)[0].splitlines()[-1]
        assert all(file in wanted for file in files)
    assert "metrics_val.json" not in plans["sim"]
    assert "conditions.json" not in plans["paper"]


def test_a_split_that_a_data_set_lacks_stops_before_the_first_job(tmp_path: Path) -> None:
    folder = with_fake_launcher(with_tables(tmp_path, of_rain="rainy", by_conditions="conditions"))
    smoke = ("--cores", "1", "--config", "scale=smoke", "seeds=1", "gpus=0")
    done = run(folder, "snakemake", "table_of_rain", *smoke, ok=False)
    assert done.returncode != 0
    assert "data/nuscenes_sim/smoke as it is simulated has no split 'rainy'" in done.stdout
    assert "it has: conditions, train, tune, val" in done.stdout
    assert not (folder / "calls.jsonl").exists(), "nothing was started"
    metrics = "results/runs/smoke/lidar_base/seed0/metrics_conditions.json"
    snakemake(folder, metrics, *smoke)
    assert (folder / metrics).exists()
