"""Attention in tables and claims, of one run and of two."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from report_synthetic import write_run

from bevkd.config import RowConfig
from bevkd.errors import ConfigError, DataError
from bevkd.eval.attention import likeness, read_attention, summary, write_attention
from bevkd.report import tables
from bevkd.report.claims import answer
from bevkd.report.fill import fill
from bevkd.report.metrics import METRICS, metric
from bevkd.report.pairs import pair_values, partners
from bevkd.report.render import to_markdown, write
from bevkd.report.runs import Runs
from bevkd.report.spec import ClaimConfig, ColumnSpec, RowSpec, TableConfig, load_claims, load_tables, reads

ROWS = {
    "teacher": RowConfig(id="teacher", dataset="nuscenes_sim", model="fusion", seeds=(0, 1)),
    "student": RowConfig(id="student", dataset="nuscenes_sim", model="camera", seeds=(0, 1, 2)),
    "arm": RowConfig(
        id="arm", dataset="nuscenes_sim", model="camera", seeds=(0, 1, 2), teacher="teacher", teacher_seed=(1, 0)
    ),
}
KEYS = ("mAP", "attention_entropy", "attention_near", "attention_centre_area", "attention_like_near")
SHOWN = tuple(RowSpec(run, run, against="teacher") for run in ("student", "arm", "teacher"))
TABLE = TableConfig("t", "T", "c", tuple(map(ColumnSpec, (*KEYS, "attention_like_far", "net_gain"))), SHOWN)
CLAIM = ClaimConfig(
    "c", "P", "s", "attention_like_far", "arm", "student", control="not_due", source="here", like="teacher"
)


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    root = tmp_path / "results/runs"
    for row in ROWS.values():
        for seed in row.seeds:
            write_run(root, row, seed, 0.1)
    return Runs(root, "sim", ROWS)


def like(runs: Runs, one: tuple[str, int], other: tuple[str, int]) -> float:
    return likeness(*(read_attention(runs.existing("attention", *pair, "report")) for pair in (one, other))).far


def test_a_table_mixes_metrics_of_a_run_and_of_pairs(runs: Runs, tmp_path: Path) -> None:
    found = fill(TABLE, runs, tmp_path)
    student, arm, teacher = found.rows
    assert (student.n, arm.n, teacher.n) == (3, 3, 2)
    of = [summary(read_attention(runs.existing("attention", "arm", seed, "report"))) for seed in range(3)]
    for name in ("entropy", "near", "centre_area"):
        assert arm.values[f"attention_{name}"].ours == pytest.approx(100 * np.mean([one[name] for one in of]))
    assert arm.values["attention_centre_area"].ours == pytest.approx(100 * 4 / 64)
    taught = [like(runs, ("arm", seed), ("teacher", theirs)) for seed, theirs in ((0, 1), (1, 0), (2, 1))]
    assert arm.values["attention_like_far"].ours == pytest.approx(np.mean(taught))
    assert student.values["attention_like_far"].ours == pytest.approx(
        np.mean([like(runs, ("student", seed), ("teacher", seed)) for seed in (0, 1)])
    )
    for place in ("near", "far"):
        own = teacher.values[f"attention_like_{place}"]
        assert (own.ours, own.std) == (pytest.approx(1), pytest.approx(0))
    assert teacher.values["net_gain"].ours == 0
    _, markdown, _ = (path.read_text() for path in write(found, tmp_path / "tables"))
    assert "| 1.00 ± 0.00 |" in markdown
    assert "attention like far correlation" in markdown
    assert "2 of 3 seeds of student have a partner in teacher." in markdown
    assert "seeds of arm" not in markdown
    again = tables.read(TABLE, tmp_path / "tables/t.csv", ROWS)
    assert [row.values["attention_like_far"].ours for row in again.rows] == pytest.approx(
        [row.values["attention_like_far"].ours for row in found.rows], abs=1e-4
    )
    both = [(run, seed) for run in ("student", "teacher", "arm") for seed in ROWS[run].seeds]
    assert {kind: sorted(pairs) for kind, pairs in reads(TABLE, ROWS).items()} == dict.fromkeys(
        ("metrics", "attention", "matches"), sorted(both)
    )


def test_constant_frames_are_said(runs: Runs, tmp_path: Path) -> None:
    found = read_attention(runs.existing("attention", "arm", 2, "report"))
    values = found.values.copy()
    values[1] = 1.0
    write_attention(replace(found, values=values))
    text = to_markdown(fill(TABLE, runs, tmp_path))
    assert "arm, seed 2: in 1 of 4 frames its attention or that of teacher is constant, and they are left out." in text


def test_a_claim_compares_both_with_the_same_teacher(runs: Runs) -> None:
    pairs = [
        like(runs, ("arm", seed), ("teacher", theirs)) - like(runs, ("student", seed), ("teacher", theirs))
        for seed, theirs in ((0, 1), (1, 0), (2, 1))
    ]
    found = answer(CLAIM, runs)
    assert (found.n, found.effect) == (3, pytest.approx(np.mean(pairs)))
    assert partners(runs, "student", "teacher") == {0: 0, 1: 1}
    assert partners(runs, "student", "teacher", "arm") == {0: 1, 1: 0, 2: 1}
    assert CLAIM.needs(ROWS) == [(run, seed) for run in ("arm", "student", "teacher") for seed in ROWS[run].seeds]
    sharper = replace(CLAIM, metric="attention_entropy", like=None)
    mine, theirs = (
        [v["attention_entropy"] for v in runs.values(run, "report", ["attention_entropy"]).values()]
        for run in ("arm", "student")
    )
    assert answer(sharper, runs).effect == pytest.approx(np.mean(np.subtract(theirs, mine))), "lower is sharper"


def test_what_metrics_of_attention_want() -> None:
    for key, given in (("attention_like_far", None), ("mAP", "teacher"), ("net_gain", "teacher")):
        with pytest.raises(ValueError, match="whom both are compared with"):
            replace(CLAIM, metric=key, like=given)
    with pytest.raises(ValueError, match="neither more nor less"):
        replace(CLAIM, metric="attention_centre_area", like=None)
    with pytest.raises(ValueError, match="over seeds"):
        replace(CLAIM, over="subsets")
    with pytest.raises(ValueError, match="same number of runs"):
        replace(CLAIM, like=("teacher", "student"))
    with pytest.raises(ValueError, match="want rows with `against`"):
        replace(TABLE, rows=(*SHOWN, RowSpec("alone", "arm")))
    with pytest.raises(ValueError, match="how alike two runs are, not by how much they differ"):
        replace(TABLE, delta="attention_like_far")
    with pytest.raises(ConfigError, match="metrics of detections"):
        metric("attention_near@range:0-20")
    assert {key for key, known in METRICS.items() if known.pairs == "likeness"} == {
        "attention_like_near",
        "attention_like_far",
    }


def test_a_missing_or_other_file_is_named(runs: Runs, tmp_path: Path) -> None:
    file = runs.existing("attention", "teacher", 1, "report")
    other = read_attention(file)
    write_attention(replace(other, tokens=[*other.tokens[1:], "elsewhere"]))
    with pytest.raises(DataError, match=r"other frames than.*arm.*teacher.*field=tokens"):
        pair_values(runs, "arm", "teacher", "report", ["attention_like_far"])
    file.unlink()
    for act in (
        lambda: pair_values(runs, "arm", "teacher", "report", ["attention_like_far"]),
        lambda: runs.values("teacher", "report", ["attention_near"]),
        lambda: fill(TABLE, runs, tmp_path),
    ):
        with pytest.raises(DataError, match="run 'teacher' has no attention for seed 1"):
            act()


def test_a_comparison_takes_the_teacher_of_its_arm(config_copy: Path) -> None:
    folder = config_copy / "papers" / "mine"
    base = {"dataset": "nuscenes_sim", "model": "camera"}
    rows = {"mine_t": base, "mine_b": base, "mine_a": base | {"teacher": "mine_t", "method": {"kind": "unidistill"}}}
    comparison = {
        "runs": {"arm": "mine_a", "baseline": "mine_b"},
        "control": "not_due",
        "source": "Figure 7",
        "metrics": {"_far": "attention_like_far", "_near": "attention_near"},
        "statement": "better in {metric}",
    }
    table = {
        "title": "T",
        "caption": "c",
        "columns": ["mAP", "attention_entropy", "attention_like_far"],
        "rows": [{"label": run, "run": run, "against": "mine_t"} for run in rows],
    }
    for name, content in (
        ("runs", {"runs": rows}),
        ("tables", {"tables": {"mine_7": table}}),
        ("claims", {"comparisons": {"mine": comparison}}),
    ):
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content))
    claims = load_claims("sim")
    assert (claims["mine_far"].like, claims["mine_near"].like) == ("mine_t", None)
    assert load_tables("sim")["mine_7"].artefacts == ("metrics", "attention")
