"""Walks through the guides, as a user takes them, all tiny: the tutorial, nuScenes mini of the README, KITTI, Waymo."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from workflow_case import ROOT, environment

from bevkd.cli import main
from bevkd.io import read_json, write_json
from bevkd.sim import SCALES, WRITERS, simulate_nuscenes


@pytest.mark.slow
def test_the_tutorial_runs(tmp_path: Path) -> None:
    env = environment() | {"PYTHONPATH": str(ROOT), "MPLBACKEND": "Agg", "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "tutorial.py")],
        cwd=tmp_path,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout
    for run in ("fusion_base", "camera_further", "dense_u"):
        assert re.search(rf"^{run} +mAP \d+\.\d  NDS \d+\.\d$", done.stdout, re.MULTILINE)
    assert "teacher: fusion_base" in done.stdout
    assert re.search(r"^[1-9]\d* detections, the best", done.stdout, re.MULTILINE)
    (folder,) = tmp_path.glob("bevkd-tutorial-*")
    assert {path.name for path in folder.iterdir()} == {"data", "results"}


def mini(root: Path) -> None:
    """A tiny data set that calls itself nuScenes mini."""
    official = read_json(ROOT / "bevkd" / "data" / "splits" / "nuscenes.json")
    scale = SCALES["smoke"]
    splits = {"train": len(official["mini_train"]) - 1, "tune": 1, "val": len(official["mini_val"]), "conditions": 0}
    simulate_nuscenes(replace(scale, splits=replace(scale.splits, **splits)), root, seed=0)
    tables = (root / "v1.0-sim").rename(root / "v1.0-mini")
    (tables / "labelled.json").unlink()
    given = read_json(tables / "splits.json")
    (tables / "splits.json").unlink()
    names = dict(
        zip(given["train"] + given["tune"] + given["val"], official["mini_train"] + official["mini_val"], strict=True)
    )
    scenes = read_json(tables / "scene.json")
    write_json(tables / "scene.json", [scene | {"name": names[scene["name"]]} for scene in scenes])


@pytest.mark.slow
def test_nuscenes_mini_word_for_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands of the README, at smoke scale, on tables of the same names."""
    monkeypatch.chdir(tmp_path)
    mini(tmp_path / "data" / "nuscenes")
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    block = next(b for b in re.findall(r"```bash\n(.*?)```", text, re.DOTALL) if "mini_teacher" in b)
    lines = [line.split(" #")[0].split()[1:] for line in block.splitlines() if line.startswith(".venv/bin/bevkd")]
    assert [words[0] for words in lines] == ["doctor", "convert", "train", "train", "train", "predict", "view"]
    for words in lines:
        if "--run" in words:
            words += ["--scale", "smoke"]
        assert main(words) == 0, words
    assert "mean_ap" in json.loads(
        (tmp_path / "results/runs/smoke/mini_student/seed0/metrics_mini_val.json").read_text()
    )
    assert list((tmp_path / "pictures").rglob("*.png"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["KITTI", "Waymo"])
def test_other_formats_word_for_word(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands of docs/own_data.md, at smoke scale, on simulated files in the place of the real ones."""
    monkeypatch.chdir(tmp_path)
    write, scales = WRITERS[name.lower()]
    write(scales["smoke"], tmp_path / "data" / name.lower(), 0)
    text = (ROOT / "docs" / "own_data.md").read_text(encoding="utf-8")
    section = next(part for part in re.split(r"^## ", text, flags=re.MULTILINE) if part.startswith(f"{name}\n"))
    (block,) = re.findall(r"```bash\n(.*?)```", section, re.DOTALL)
    lines = [line.split()[1:] for line in block.splitlines()]
    assert [words[0] for words in lines] == ["doctor", "convert", "train", "predict", "view"]
    for words in lines:
        words += ["--scale", "smoke"] if "--run" in words else []
        words[-2:] = ["--workers", "1"] if "--workers" in words else words[-2:]
        assert main(words) == 0, words
    assert list((tmp_path / "results" / "runs" / "smoke").rglob("metrics_val.json"))
    assert list((tmp_path / "pictures").rglob("*.png"))
