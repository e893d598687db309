"""What the workflow itself costs: no timers that breed, a profile loaded by itself, an estimate where it is read."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from snakemake import __version__
from snakemake.cli import parse_args
from workflow_case import ROOT, Plans, copy_repository, environment, run, small_copy, snakemake, with_fake_launcher

from bevkd.config.workflow import CostConfig

COUNTED = """
import sys, threading
started = []
class Timer(threading.Timer):
    def start(self):
        started.append(self)
        super().start()
threading.Timer = Timer
from snakemake.cli import main
try:
    main(sys.argv[1:])
finally:
    print("timers:", len(started))
"""


def timers(folder: Path, *arguments: str) -> int:
    """How many timers Snakemake starts in a run."""
    done = subprocess.run(
        [sys.executable, "-c", COUNTED, *arguments], cwd=folder, env=environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return int(re.findall(r"timers: (\d+)", done.stdout)[-1])


def test_no_pass_of_the_main_loop_causes_another(tmp_path: Path) -> None:
    folder = with_fake_launcher(small_copy(tmp_path))
    models = [f"results/runs/smoke/lidar_base/seed{seed}/model.pt" for seed in (0, 1)]
    settings = ("--cores", "1", "--config", "scale=smoke")
    assert timers(folder, models[0], *settings) == 0
    if __version__ == "9.27.1":  # the version that the note in rate_limit.py is about
        assert timers(folder, models[1], "--no-hooks", *settings) > 0


@pytest.mark.parametrize(
    ("scheduler", "left"),
    [
        (SimpleNamespace(job_rate_limiter=object()), {"job_rate_limiter": None}),
        (SimpleNamespace(job_rate_limiter=None), {"job_rate_limiter": None}),
        (SimpleNamespace(other=1), {"other": 1}),
    ],
)
def test_other_versions_of_snakemake_are_left_alone(scheduler: SimpleNamespace, left: dict[str, Any]) -> None:
    end = runpy.run_path(str(ROOT / "workflow" / "scripts" / "rate_limit.py"))["end_rate_limit"]
    end(scheduler)
    assert vars(scheduler) == left


def test_plain_snakemake_loads_the_default_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    _, plain = parse_args([])
    assert (plain.scheduler, plain.cores, plain.rerun_incomplete, plain.show_failed_logs) == (
        "greedy",
        os.cpu_count(),
        True,
        True,
    )
    assert not plain.quiet
    _, told = parse_args(["--cores", "3", "--scheduler", "ilp"])
    assert (told.cores, told.scheduler) == (3, "ilp")
    _, none = parse_args(["--workflow-profile", "none"])
    assert (none.cores, none.rerun_incomplete) == (None, False)


def test_other_tools_leave_the_options_of_the_default_profile_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """DVC and make call Snakemake beside the Snakefile, where it finds the profile: a killed run goes on."""
    monkeypatch.chdir(ROOT)
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    for stage in stages.values():
        shell, launcher, *arguments = stage["cmd"].split()
        assert (shell, launcher) == ("sh", "workflow/scripts/snakemake.sh")
        _, found = parse_args(arguments)
        assert (found.rerun_incomplete, found.scheduler) == (True, "greedy")
    for name in ("dvc.yaml", "Makefile"):
        assert "--rerun-incomplete" not in (ROOT / name).read_text()


def test_another_profile_takes_the_place_of_the_default_one(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("snakemake_executor_plugin_slurm", reason="needs the slurm extra")
    monkeypatch.chdir(ROOT)
    _, slurm = parse_args(["--workflow-profile", "workflow/profiles/slurm"])
    assert (slurm.executor, slurm.cores, slurm.scheduler) == ("slurm", None, "greedy")


def test_a_dry_run_ends_with_its_estimate_by_part(plans: Plans) -> None:
    lines = plans.everything("smoke").splitlines()
    done, all_of_them, minutes, wall = map(
        int,
        re.fullmatch(
            r"estimated cost: (\d+) of (\d+) trainings to do, about (\d+) CPU minutes \((\d+) minutes on 2 cores\)",
            lines[-1],
        ).groups(),  # type: ignore[union-attr]
    )
    assert done == all_of_them == sum("rule train:" in line for line in lines)
    assert wall == pytest.approx(minutes / 2, abs=1)
    start = next(i for i, line in enumerate(lines) if line.startswith("This was a dry-run"))
    parts = {}
    assert re.fullmatch(r"  \d+ teacher caches, about [\d.]+ GB on disk", lines[-3])
    assert re.fullmatch(r"  headline tables: unidistill_s1 after \d+ minutes(, \w+ after \d+ minutes)+", lines[-2])
    for line in lines[start + 1 : -3]:
        name, trainings, cost = re.fullmatch(r"  (.+?) +(\d+) trainings +(\d+) CPU minutes", line).groups()  # type: ignore[union-attr]
        parts[name] = (int(trainings), int(cost))
    assert {
        "crkd",
        "datasets",
        "distillbev",
        "image_weights",
        "label_efficiency",
        "simdistill",
        "unidistill",
        "data and pages",
    } == set(parts)
    assert sum(trainings for trainings, _ in parts.values()) == done
    assert parts["data and pages"][0] == 0
    assert sum(cost for _, cost in parts.values()) == pytest.approx(minutes, abs=len(parts))

    for asked, parts_of_it in (
        (("datasets", "--cores", "1"), {"datasets", "data"}),
        (("--cores", "1", "--config", "seeds=1", "--", "table_unidistill_s6"), {"unidistill", "image_weights", "data"}),
    ):
        plan = plans(*asked).splitlines()
        assert plan[-1].startswith("estimated cost: ")
        start = next(i for i, line in enumerate(plan) if line.startswith("This was a dry-run"))
        costs = [line.split()[0] for line in plan[start:] if line.endswith("CPU minutes")]
        assert set(costs) == parts_of_it

    real = plans.everything("paper").splitlines()
    assert re.fullmatch(r"estimated cost: (\d+) of \1 trainings to do; no cost is known for scale 'paper'", real[-1])


def by_part(plan: str) -> dict[str, int]:
    """CPU minutes by part of an estimate."""
    lines = re.findall(r"^  (.+?) +\d+ trainings +(\d+) CPU minutes$", plan, flags=re.MULTILINE)
    return {name: int(minutes) for name, minutes in lines}


def test_every_job_is_booked_where_it_belongs(tmp_path: Path) -> None:
    """Tables, figures and parts of the results to their paper; a snapshot is evaluated as a model is."""
    folder = copy_repository(tmp_path)
    path = folder / "config" / "config.yaml"
    plain = yaml.safe_load(path.read_text())
    steps = dict.fromkeys(plain["cost"]["smoke"]["per_step"], 0.0)
    costs = {"simulate": 0, "convert": 0, "cache": 0, "report": 0, "evaluate": 0, "per_step": steps}

    def estimated(*targets: str, **changed: Any) -> dict[str, int]:
        plain["cost"]["smoke"] = costs | {"start": 0} | changed
        path.write_text(yaml.safe_dump(plain, sort_keys=False))
        return by_part(snakemake(folder, *targets, "--dry-run", "--cores", "1", "--config", "scale=smoke"))

    metrics = "results/runs/smoke/lidar_base/seed0/snapshots/1of2/metrics_val.json"
    found = estimated(metrics, start=0.001, evaluate=6000)
    assert found == {"unidistill": 100, "data and pages": 0}
    # By model, and data sets by format; what is not named costs the mean of the others.
    found = estimated(metrics, start=0.001, evaluate={"lidar_pillar": 1200, "camera": 1}, simulate={"nuscenes": 600})
    assert found == {"unidistill": 20, "data and pages": 10}
    found = estimated(metrics, start=0.001, evaluate={"camera": 600, "fusion": 1200}, convert={"kitti": 60})
    assert found == {"unidistill": 15, "data and pages": 1}
    # Caches by their entries: two teachers, 12 labelled frames under 4 augmentations, which students do not all meet.
    found = estimated("run_unidistill_p4", start=0.001, cache={"lidar_pillar": 60})
    assert 40 < found["unidistill"] <= 96
    # One minute a job; data set and index belong to no paper.
    found = estimated("table_kitti", start=60)
    assert found["data and pages"] == 2
    with_table = found["datasets"]
    assert with_table % 2 == 1, "a training and metrics of each run and seed, and the table"
    found = estimated("datasets", start=60)
    assert found["data and pages"] == 4, "two data sets with their indices"
    assert found["datasets"] == with_table + 2 + 1 + 1, "another run with its metrics and table, and the part itself"


def test_what_a_job_costs_by_model_format_or_rule() -> None:
    cost = CostConfig(evaluate={"camera": 2.0, "fusion": 4.0}, simulate=7.0, other={"image_weights": 90.0})
    assert [cost.of("evaluate", model) for model in ("camera", "fusion", "unknown")] == [2.0, 4.0, 3.0]
    assert (cost.of("simulate", "kitti"), cost.of("response", "camera")) == (7.0, 0.0)
    assert (cost.of("image_weights"), cost.of("a rule without a price")) == (90.0, 0.0)


@pytest.mark.parametrize("asked", ["0", "1"])
def test_the_estimate_comes_last_whoever_shows_the_plan(
    plans: Plans, asked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workflow_case.environment", lambda: environment() | {"BEVKD_CONSOLE": asked})
    plan = snakemake(plans.clone, "table_kitti", "--dry-run", "--cores", "all", "--config", "scale=smoke")
    assert plan.splitlines()[-1].startswith("estimated cost: ")


def test_a_plan_that_cannot_be_made_has_no_estimate(plans: Plans) -> None:
    done = run(plans.clone, "snakemake", "nonsense", "--dry-run", "--cores", "1", ok=False)
    assert done.returncode != 0
    assert "estimated cost" not in done.stdout


def test_what_is_done_costs_nothing(tmp_path: Path) -> None:
    folder = with_fake_launcher(small_copy(tmp_path))
    models = [f"results/runs/smoke/lidar_base/seed{seed}/model.pt" for seed in (0, 1)]
    settings = ("--cores", "1", "--config", "scale=smoke")
    snakemake(folder, models[0], *settings)
    plan = snakemake(folder, *models, "--dry-run", *settings)
    assert "estimated cost: 1 of 2 trainings to do" in plan.splitlines()[-1]
    snakemake(folder, *models, *settings)
    plan = snakemake(folder, *models, "--dry-run", *settings)
    assert "Nothing to be done" in plan
    assert plan.splitlines()[-1].startswith("estimated cost: 0 of 2 trainings to do, about 0 CPU minutes")
