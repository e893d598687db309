"""What jobs cost, read from what they leave behind, and written to where the estimate of a dry run reads it."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest
import yaml

from bevkd.config import WorkflowConfig, load_rows, load_run, parse
from bevkd.config.workflow import CostConfig
from bevkd.distill import cache_name

ROOT = Path(__file__).resolve().parents[2]
COSTS = runpy.run_path(str(ROOT / "benchmarks" / "costs.py"))
CONFIG = (ROOT / "config" / "config.yaml").read_text(encoding="utf-8")


def left(results: Path, name: str, text: str) -> None:
    path = results / "logs" / "sim" / f"{name}.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def spent(seconds: float) -> str:
    return f"some words\nCPU time {seconds} s, peak memory 300 MiB\n"


def measured(results: Path) -> dict[tuple[str, str], Any]:
    prices = COSTS["Prices"]("sim", load_rows())
    found = COSTS["measured"](COSTS["jobs_of"](results, "sim"), prices, 1.0)
    return {key: pytest.approx(values) for key, values in found.items()}


def test_every_kind_of_job_is_priced_by_what_it_made(tmp_path: Path) -> None:
    base, arm = load_run("camera_base", "sim", 0), load_run("unidistill_p2", "sim", 0)
    steps = base.train.steps
    left(tmp_path, "train/camera_base-seed0", spent(1 + 0.5 * steps))
    left(tmp_path, "train/camera_base-seed1", spent(1 + 0.7 * steps))
    left(tmp_path, "train/unidistill_p2-seed0", spent(1 + 0.9 * arm.train.steps))
    left(tmp_path, "evaluate/camera_base-seed0-val", spent(6))
    left(tmp_path, "evaluate/camera_base-seed0-1of4-tune", spent(5))
    left(tmp_path, "simulate/data/nuscenes_sim/sim", spent(91))
    left(tmp_path, "convert/data/index/kitti_sim/sim", spent(4))
    left(tmp_path, "table/unidistill_s1", spent(3))
    left(tmp_path, "report", spent(9))
    left(tmp_path, "image_weights", spent(61))
    left(tmp_path, f"cache_teacher/{cache_name(arm)}/unidistill-all", spent(101))
    left(tmp_path, f"cache_teacher/{cache_name(arm)}/gone-all", spent(101))
    left(tmp_path, "train/gone_for_good-seed0", spent(101))
    found = measured(tmp_path)
    cached = found.pop(("cache", "fusion"))
    assert 100 / (16 * 100) <= cached.expected[0] <= 100 / 100
    assert found == {
        ("per_step", "camera"): [0.5, 0.7],
        ("distilled", "unidistill camera"): [0.9],
        ("evaluate", "camera"): [4, 5],
        ("simulate", "nuscenes"): [90],
        ("convert", "kitti"): [3],
        ("report", "table"): [2],
        ("report", "report"): [8],
        ("other", "image_weights"): [60],
    }


def test_what_does_not_tell_the_whole_cost_is_left_out(tmp_path: Path) -> None:
    left(tmp_path, "train/camera_base-seed0", f"{spent(50)}resuming here at step 5 of 10\n{spent(20)}")
    left(tmp_path, "train/camera_base-seed1", "killed")
    # Made anew after a change: the last time counts.
    left(tmp_path, "train/lidar_base-seed0", f"{spent(7)}{spent(11)}")
    cold = tmp_path / "benchmarks" / "sim" / "train" / "lidar_base-seed1.tsv"
    cold.parent.mkdir(parents=True)
    cold.write_text("s\th:m:s\tcpu_time\n40.0\t0:00:40\t21.00\n")
    jobs = COSTS["jobs_of"](tmp_path, "sim")
    assert {job.name: job.seconds for job in jobs} == {"lidar_base-seed0": 11.0, "lidar_base-seed1": 21.0}


def test_a_written_table_is_what_was_measured_and_all_else_stays() -> None:
    before = parse(WorkflowConfig, yaml.safe_load(CONFIG), "config")
    found = {("per_step", "camera"): [0.5, 0.7], ("evaluate", "camera"): [4.0, 5.0]}
    found |= {("distilled", "crkd camera"): [0.9], ("distilled", "dense camera"): [0.66]}
    cost = COSTS["with_measured"](before.cost["sim"], found)
    assert (cost.per_step["camera"], cost.of("evaluate", "camera")) == (0.6, 4.5)
    assert (cost.factor("crkd"), cost.factor("dense"), cost.factor("")) == (1.5, 1.1, 1.0)
    assert cost.per_step["fusion"] == before.cost["sim"].per_step["fusion"]
    text = COSTS["rewritten"](CONFIG, "sim", cost)
    after = parse(WorkflowConfig, yaml.safe_load(text), "config")
    assert after.cost["sim"] == cost
    assert (after.cost["smoke"], after.bench, after.budget) == (before.cost["smoke"], before.bench, before.budget)
    assert text.partition("\ncost:")[0] == CONFIG.partition("\ncost:")[0]
    with pytest.raises(ValueError, match="no cost table of scale 'paper'"):
        COSTS["rewritten"](CONFIG, "paper", CostConfig())


@pytest.mark.parametrize("bf16", [True, False])
def test_costs_of_another_kind_of_processor_are_not_written(
    bf16: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    main, written = COSTS["main"], list[str]()
    left(tmp_path, "report", spent(9))
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("sys.argv", ["costs.py", "--results", str(tmp_path), "--write"])
    monkeypatch.setitem(main.__globals__, "cpu_has_bf16", lambda: bf16)
    monkeypatch.setitem(main.__globals__, "write_text", lambda _, text: written.append(text))
    if bf16:
        main()
        assert "report: 8.0" in written[0]
    else:
        with pytest.raises(SystemExit):
            main()
        assert "of a processor with bfloat16" in capsys.readouterr().err
        assert not written
