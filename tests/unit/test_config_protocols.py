"""Protocols follow from rows; what a comparison says of its own is checked."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from bevkd.config import RowConfig, load_papers, load_run, parse
from bevkd.config.comparisons import check_lengths
from bevkd.config.papers import stand_ins_at
from bevkd.config.protocols import PROTOCOLS, WORDING, protocols_of_row
from bevkd.errors import ConfigError
from bevkd.report.spec import load_claims

RUNS: dict[str, Any] = {
    "teacher": {"model": "lidar_voxel"},
    "base": {"model": "camera"},
    "arm": {"like": "base", "teacher": "teacher", "method": {"kind": "dense"}},
    "more": {"like": "arm", "frames": "all"},
    "base_on": {"like": "base", "init": {"run": "base"}},
    "arm_on": {"like": "arm", "init": {"run": "base"}},
    "more_on": {"like": "arm_on", "frames": "all"},
    "arm_other": {"like": "arm", "init": {"run": "base", "seed": 0}},
    "arm_backbone": {"like": "arm", "init": {"run": "base", "parts": ["camera.backbone"]}},
    "base_backbone": {"like": "base", "init": {"run": "base", "parts": ["camera.backbone"]}},
    "arm_heads": {"like": "arm", "init": {"run": "teacher", "seed": "teacher", "parts": ["head.tasks"]}},
    "long": {"like": "arm", "set": {"train": {"steps_factor": 2.0}}},
}


def comparison(arm: Any, baseline: Any, **more: Any) -> dict[str, Any]:
    runs = {"arm": arm, "baseline": baseline} | more.pop("controls", {})
    return {"runs": runs, "metrics": "mAP", "source": "s", "statement": "s", "control": "not_due"} | more


def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **comparisons: Any) -> Any:
    """The comparisons of a paper of its own."""
    folder = tmp_path / "papers/own"
    folder.mkdir(parents=True)
    rows = {"defaults": {"dataset": "nuscenes_sim"}, "runs": RUNS}
    (folder / "runs.yaml").write_text(yaml.safe_dump(rows))
    (folder / "claims.yaml").write_text(yaml.safe_dump({"comparisons": comparisons}))
    monkeypatch.setenv("BEVKD_CONFIG", str(tmp_path))
    return load_papers()["own"].comparisons


def test_protocols_follow_from_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = own(
        tmp_path,
        monkeypatch,
        scratch=comparison("arm", "base"),
        unlabelled=comparison("more", "base"),
        hurts=comparison("base", "more"),
        further=comparison("arm_on", "base_on"),
        both=comparison("more_on", "base_on"),
        said=comparison("more_on", "base_on", protocol="unlabelled"),
        backbone=comparison("arm_backbone", "base_backbone"),
        pooled=comparison(["arm_on", "arm_on"], ["base_on", "base_on"]),
    )
    assert {name: item.protocol for name, item in found.items()} == {
        "scratch": "published",
        "unlabelled": "unlabelled",
        "hurts": "unlabelled",
        "further": "further",
        "both": "further",
        "said": "unlabelled",
        "backbone": "published",
        "pooled": "further",
    }
    assert load_claims("sim")["further"].protocol == "further"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (comparison("arm", "base", protocol="further"), r"'c': protocol 'further', but by its rows it is published"),
        (comparison("arm_on", "base_on", protocol="published"), "by its rows it is further"),
        (comparison("arm_on", "base_on", protocol="farther"), r"claims\.yaml: comparison 'c': protocol"),
        (comparison("arm_on", "base"), r"'arm_on' starts from 'base' \(seed same, all\), 'base' from nothing"),
        (comparison("arm_on", "base_on", controls={"own": "arm"}), "'arm' from nothing"),
        (comparison("arm_on", "arm_other"), r"'arm_other' from 'base' \(seed 0, all\)"),
        (comparison("arm_backbone", "base"), r"starts from 'base' \(seed same, camera\.backbone\)"),
        (comparison(["arm", "more"], ["base", "base"]), "'arm' is published, 'more' is unlabelled"),
    ],
)
def test_what_is_not_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        own(tmp_path, monkeypatch, c=given)


def test_what_is_compared_may_differ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = own(tmp_path, monkeypatch, c=comparison("arm_on", "base", differs=["start"]))
    assert found["c"].protocol == "further"


def test_what_a_teacher_gives_is_a_part_of_the_method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Task heads of the training that a row learns from (DistillBEV spec, 3.1.8) are what is compared."""
    assert own(tmp_path, monkeypatch, c=comparison("arm_heads", "base"))["c"].protocol == "published"


def test_compared_runs_train_the_same_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = own(
        tmp_path,
        monkeypatch,
        same=comparison("arm", "base"),
        shown=comparison("long", "base", metrics=[]),
        meant=comparison("long", "base", differs=["steps"]),
        there=comparison("arm", "base", at={"paper": {"arm": "long"}}),
        control=comparison("arm", "base", controls={"own": "long"}),
    )

    def train(run: str) -> Any:
        return load_run(run, "sim", 0).train

    good = {name: found[name] for name in ("same", "shown", "meant", "there")}
    check_lengths(good, "sim", train, "claims.yaml")
    steps = train("base").steps
    expected = rf"comparison 'control' at scale 'sim': 'arm' trains {steps} steps, 'long' {2 * steps} steps"
    with pytest.raises(ConfigError, match=expected):
        check_lengths(found, "sim", train, "claims.yaml")
    with pytest.raises(ConfigError, match="comparison 'there' at scale 'paper'"):
        check_lengths({"there": found["there"]}, "paper", train, "claims.yaml")


@pytest.mark.parametrize("scale", ["smoke", "sim", "paper"])
def test_every_comparison_trains_the_same_steps(scale: str) -> None:
    @cache
    def train(run: str) -> Any:
        return load_run(run, scale, 0).train

    for paper in load_papers().values():
        check_lengths(paper.comparisons, scale, train, paper.name, stand_ins_at(scale))


def test_rows_and_wording() -> None:
    given = {"id": "r", "dataset": "d", "model": "m"}
    assert protocols_of_row(parse(RowConfig, given, "")) == ("published",)
    both = parse(RowConfig, {**given, "frames": "all", "init": {"run": "x"}}, "")
    assert protocols_of_row(both) == ("further", "unlabelled")
    assert set(WORDING) == set(PROTOCOLS)
    assert "not of training with a teacher from scratch" in WORDING["further"]
