"""The benchmark of distilled steps runs whole, every method from a teacher and on a student of its own paper."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest
from workflow_case import ROOT

from bevkd.config import load_rows


def test_every_method_is_timed(smoke_dataset: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, target in (("nuscenes_sim", smoke_dataset.root), ("index/nuscenes_sim", smoke_dataset.index)):
        place = tmp_path / "data" / name / "smoke"
        place.parent.mkdir(parents=True)
        place.symlink_to(target)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BEVKD_CONFIG", str(ROOT / "config"))
    few = ("--rounds", "1", "--batches", "1", "--teacher-steps", "1")
    monkeypatch.setattr("sys.argv", ["distill_step.py", "--scale", "smoke", *few, "--out", str(tmp_path / "out.json")])
    benchmark = runpy.run_path(str(ROOT / "benchmarks" / "distill_step.py"))
    benchmark["main"]()
    rows = json.loads((tmp_path / "out.json").read_text())["rows"]
    assert {row["method"] for row in rows} == {"plain", *benchmark["METHODS"]}
    assert all(0 < row["loss_ms"] < row["step_ms"] for row in rows)
    known = load_rows()
    assert {known[run].method for run in benchmark["STUDENTS"].values()} == {None}
    timed = {benchmark["METHODS"][row["method"]].kind for row in rows if row["method"] != "plain"}
    papers = ("unidistill", "distillbev", "simdistill", "crkd")
    assert timed >= {row.method.kind for row in known.values() if row.method and row.id in papers}
