"""DVC on top of Snakemake: it records what Snakemake made, and the two do not fight. Commands are stand-ins here."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from workflow_case import ROOT, copy_repository, run, smoke_by_default, snakemake, with_fake_launcher, with_papers

from bevkd.config import load_run
from bevkd.config.plain import to_plain

pytestmark = pytest.mark.slow
# Enough for every output that a stage has; more papers would be more of the same jobs.
PAPERS = ("datasets", "image_weights", "label_efficiency", "unidistill")


def git(folder: Path, *arguments: str) -> None:
    run(folder, "git", "-c", "user.name=test", "-c", "user.email=test@example.org", *arguments)


@pytest.fixture(scope="module")
def reproduced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh clone after `dvc repro`."""
    folder = with_papers(copy_repository(tmp_path_factory.mktemp("dvc")), *PAPERS)
    with_fake_launcher(smoke_by_default(folder))
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "before")
    log = run(folder, "dvc", "repro").stdout
    assert log.count("Running stage") == 3, log
    return folder


def test_repro_makes_everything_once(reproduced: Path) -> None:
    calls = [json.loads(line)["command"] for line in (reproduced / "calls.jsonl").read_text().splitlines()]
    assert calls.count("simulate") == calls.count("convert") == 4
    assert calls.count("report") == 1
    models = list((reproduced / "results" / "runs" / "smoke").glob("*/seed*/model.pt"))
    assert calls.count("train") == len(models) > 10


def test_neither_repeats_what_the_other_recorded(reproduced: Path) -> None:
    before = (reproduced / "calls.jsonl").read_text()
    assert "up to date" in run(reproduced, "dvc", "status").stdout
    assert "Running stage" not in run(reproduced, "dvc", "repro").stdout
    run(reproduced, "dvc", "repro", "--force", "report")  # Snakemake decides, whatever DVC thinks
    assert "Nothing to be done" in snakemake(reproduced, "--cores", "1", "--dry-run")
    assert (reproduced / "calls.jsonl").read_text() == before


def test_metrics_and_plots(reproduced: Path, tmp_path: Path) -> None:
    shown = run(reproduced, "dvc", "metrics", "show", "--json").stdout
    values = json.loads(shown[shown.index("{") :])[""]["data"]
    assert {path: value["data"] for path, value in values.items()} == {
        f"results/smoke/metrics/{part}.json": {"runs": 2, "reproduced": 1} for part in PAPERS
    }
    run(reproduced, "dvc", "plots", "show", "--out", str(tmp_path / "plots"))
    page = (tmp_path / "plots" / "index.html").read_text()
    for title in ("mAP of every run and seed", "AP per class", "Training loss"):
        assert title in page
    assert "camera_base" in page


def test_the_folder_of_plots_is_no_change(reproduced: Path) -> None:
    before = run(reproduced, "git", "status", "--short").stdout
    run(reproduced, "dvc", "plots", "show")
    assert (reproduced / "dvc_plots" / "index.html").exists()
    assert run(reproduced, "git", "status", "--short").stdout == before


def test_a_fresh_clone_can_be_planned(tmp_path: Path) -> None:
    folder = copy_repository(tmp_path, results=True)
    git(folder, "init", "-q")
    said = run(folder, "dvc", "repro", "--dry").stdout
    assert said.count("Running stage") == said.count("> sh workflow/scripts/snakemake.sh --cores all") == 3
    lines = run(folder, "dvc", "metrics", "show").stdout.splitlines()
    parts = [line.split()[0] for line in lines if line.startswith("results/metrics/")]
    assert parts == sorted(str(path.relative_to(folder)) for path in (folder / "results" / "metrics").iterdir())
    assert max(map(len, lines)) < 120


def test_another_clone_pulls_instead_of_training(reproduced: Path, tmp_path: Path) -> None:
    run(reproduced, "dvc", "remote", "add", "--force", "--default", "store", str(tmp_path / "store"))
    git(reproduced, "add", ".")
    git(reproduced, "add", "--force", "results/smoke")  # ignored at this scale; results of the default scale are kept
    git(reproduced, "commit", "-q", "-m", "after")
    run(reproduced, "dvc", "push")
    other = tmp_path / "other"
    git(tmp_path, "clone", "-q", str(reproduced), str(other))
    run(other, "dvc", "pull")
    (adopt,) = [line for line in (ROOT / "Makefile").read_text().splitlines() if "snakemake --touch" in line]
    snakemake(other, *adopt.replace("$(ARGS)", "").split()[1:])
    assert "Nothing to be done" in snakemake(other, "--cores", "1", "--dry-run")
    assert "up to date" in run(other, "dvc", "status").stdout


def test_runs_of_another_configuration_are_not_adopted(tmp_path: Path) -> None:
    file = tmp_path / "results" / "runs" / "smoke" / "camera_base" / "seed1" / "config.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(yaml.safe_dump(to_plain(load_run("camera_base", "smoke", 1))), encoding="utf-8")
    script = str(ROOT / "workflow" / "scripts" / "adopt.py")
    run(tmp_path, "python", script)
    file.write_text(re.sub(r"(?m)^  grad_clip: .*$", "  grad_clip: 0.123", file.read_text()), encoding="utf-8")
    refused = run(tmp_path, "python", script, ok=False)
    assert refused.returncode == 3
    assert re.search(r"smoke/camera_base/seed1: train.grad_clip: 0.123 -> ", refused.stdout)
    assert "Not adopted" in refused.stdout
    file.write_text("model: [", encoding="utf-8")
    assert "camera_base/seed1/config.yaml" in run(tmp_path, "python", script, ok=False).stdout
