"""The factor of a method's losses: one rule, the table of its trials, and the rows of the study that rest on it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from report_synthetic import write_run

from bevkd.config import MethodConfig, RowConfig, identity, load_rows, load_run
from bevkd.errors import ConfigError
from bevkd.report import factors, make_table, render, tables
from bevkd.report.factors import FACTORS, Choice, Trial, choices, choose
from bevkd.report.fill import fill
from bevkd.report.misfits import table_file
from bevkd.report.records import MAIN
from bevkd.report.runs import Runs
from bevkd.report.spec import ColumnSpec, RowSpec, TableConfig, load_tables

RESULTS = Path(__file__).resolve().parents[2] / "results"
TABLES = {name: spec for name, spec in load_tables("sim").items() if spec.chooses == "factor"}


def trials(*means: float, std: float = 0.0, n: int = 3) -> dict[float, Trial]:
    return {factor: Trial(mean, std, n) for factor, mean in zip(FACTORS, means, strict=True)}


@pytest.mark.parametrize(
    ("means", "std", "chosen"),
    [
        ((1.0, 2.0, 3.0, 2.0), 0.0, 1.0),
        ((1.0, 3.0, 2.0, 2.0), 0.0, 0.3),
        ((5.0, 4.0, 3.0, 2.0), 0.0, 0.1),
        ((1.0, 2.0, 3.0, 4.0), 0.0, 3.0),
        ((5.0, 4.5, 4.0, 2.0), 1.72, 0.3),  # one standard error is 0.993: 0.3 is within it, 1 is not
        ((5.0, 4.5, 4.0, 2.0), 1.74, 1.0),  # 1.0046: the published weights are as good
        ((1.0, 4.9, 3.0, 5.0), 0.5, 3.0),  # two as near to 1: the better one
        ((1.0, 5.0, 3.0, 4.9), 0.5, 0.3),
        ((5.0, 5.0, 5.0, 5.0), 0.0, 1.0),
    ],
)
def test_the_rule(means: tuple[float, ...], std: float, chosen: float) -> None:
    found = trials(*means, std=std)
    assert choose(found) == chosen
    assert choose(dict(reversed(found.items()))) == chosen, "whatever their order"


def test_the_error_is_that_of_the_best_factor() -> None:
    found = trials(5.0, 4.0, 4.0, 4.0)
    assert choose(found | {1.0: Trial(4.0, 99.0, 3)}) == 0.1
    assert choose(found | {0.1: Trial(5.0, 99.0, 3)}) == 1.0


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        ({}, r"losses ×0\.1, losses ×0\.3, losses ×1, losses ×3: not run"),
        ({f: t for f, t in trials(1, 2, 3, 4).items() if f != 0.3}, r"^losses ×0\.3: not run"),
        (trials(1, 2, 3, 4, n=1), "at least two"),
        (trials(1, 2, 3, 4) | {3.0: Trial(4, 0, 2)}, "the same seeds"),
        (trials(1, 2, 3, 4) | {10.0: Trial(4, 0, 3)}, "losses ×10: not among"),
    ],
)
def test_too_little_to_choose_from(found: dict[float, Trial], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        choose(found)


def study() -> tuple[dict[str, RowConfig], TableConfig]:
    """An arm with more seeds than its trials, its baseline, and the table of them."""
    base = RowConfig(id="base", dataset="nuscenes_sim", model="camera", seeds=(0, 1, 2, 3))
    arm = replace(base, id="arm", teacher="base", method=MethodConfig("dense"))
    rows = {"base": base, "arm": arm}
    for factor in (0.1, 0.3, 3.0):
        method = MethodConfig("dense", factor=factor, factor_from="arm")
        rows[f"arm_{factor:g}"] = replace(arm, id=f"arm_{factor:g}", seeds=(1, 2), method=method, target="tuning")
    shown = [RowSpec("no teacher", "base", "g", "baseline")]
    shown += [RowSpec(run, run, "g", "distilled", against="base") for run in rows if run != "base"]
    spec = TableConfig(
        *("t", "T", "c", (ColumnSpec("mAP"), ColumnSpec("kd_share"), ColumnSpec("clipped")), tuple(shown)),
        **{"target": "tuning", "split": "tune", "delta": "mAP", "chooses": "factor"},
    )
    return rows, spec


# By run: mean AP on the tune split, of seeds 1 and 2; other seeds would change every mean.
VALUES = {"base": 0.10, "arm": 0.09, "arm_0.1": 0.11, "arm_0.3": 0.14, "arm_3": 0.05}


def written(root: Path, rows: dict[str, RowConfig], leave: str = "") -> Runs:
    for run, row in rows.items():
        for seed in row.seeds if run != leave else ():
            write_run(root / "runs", row, seed, VALUES[run] + {1: 0.001, 2: -0.001}.get(seed, 0.5))
    return Runs(root / "runs", "sim", rows)


def test_a_table_of_trials_marks_the_chosen_factor(tmp_path: Path) -> None:
    rows, spec = study()
    table = fill(spec, written(tmp_path, rows), tmp_path)
    found = {row.run: row for row in table.rows}
    assert {row.n for row in table.rows} == {2}, "the seeds that all of them have"
    assert {row.seeds for row in table.rows} == {"1,2"}
    assert found["arm"].values["mAP"].ours == pytest.approx(9.0)
    assert found["arm_0.3"].delta is not None
    assert (found["arm_0.3"].delta.mean, found["arm_0.3"].delta.n) == (pytest.approx(4.0), 2)
    assert found["base"].delta is None
    assert choices(table) == [Choice("g", ("arm", "arm_0.1", "arm_0.3", "arm_3"), 0.3)]
    text = render.to_markdown(table)
    assert "| arm_0.3, losses ×0.3 (chosen) | +4.0" in text
    assert "| arm_3, losses ×3 | -5.0" in text
    assert "| arm | -1.0" in text
    assert text.count("(chosen)") == 1
    assert "Chosen, by one rule for all methods: of the factors 0.1, 0.3, 1, 3" in text
    (file,) = [path for path in render.write(table, tmp_path) if path.suffix == ".csv"]
    again = tables.read(spec, file, rows)
    assert render.to_markdown(again) == text, "also when read"
    assert "(chosen)" in render.to_latex(again)


def test_missing_trials_and_baselines_are_said(tmp_path: Path) -> None:
    rows, spec = study()
    text = render.to_markdown(fill(spec, written(tmp_path / "a", rows, leave="arm_3"), tmp_path / "a"))
    assert "(chosen)" not in text
    assert "Nothing is chosen yet for g (losses ×3: not run)." in text
    assert "Not run: arm_3." in text
    table = fill(spec, written(tmp_path / "b", rows, leave="base"), tmp_path / "b")
    assert [row.run for row in table.rows if row.delta is None] == ["arm", "arm_0.1", "arm_0.3", "arm_3"]


def test_trials_without_a_common_seed_are_refused() -> None:
    rows, spec = study()
    rows["arm_3"] = replace(rows["arm_3"], seeds=(7,))
    with pytest.raises(ConfigError, match="table 't', group 'g': its runs share no seed"):
        spec.shown_seeds("g", "arm", rows)
    assert replace(spec, chooses=None).shown_seeds("g", "arm", rows) == (0, 1, 2, 3)


def test_what_chooses_needs_a_metric() -> None:
    _, spec = study()
    with pytest.raises(ValueError, match="the metric that it chooses by"):
        replace(spec, delta=None)


def test_other_tables_name_a_factor_and_choose_nothing(tmp_path: Path) -> None:
    rows, spec = study()
    rows = {run: replace(row, target="all") for run, row in rows.items()}
    plain = replace(spec, chooses=None, target="all", rows=tuple(row for row in spec.rows if row.run != "arm_3"))
    text = render.to_markdown(fill(plain, written(tmp_path, rows, leave="arm_3"), tmp_path))
    assert "| arm_0.3, losses ×0.3 |" in text
    assert "| arm |" in text
    assert "Losses ×f: all losses of the method count f times" in text
    assert "chosen" not in text.lower()


# --- the configuration ------------------------------------------------------------------------------------------------


def trial_rows() -> dict[str, RowConfig]:
    rows = load_rows()
    return {r: row for r, row in rows.items() if row.target == "tuning" and row.method and row.method.factor_from}


@pytest.mark.parametrize("scale", ["smoke", "sim"])
def test_a_trial_is_its_arm_but_for_the_factor(scale: str) -> None:
    assert trial_rows()
    for run, row in trial_rows().items():
        assert row.method is not None
        mine, arm = (identity(load_run(name, scale, row.seeds[0])) for name in (run, row.method.factor_from))
        assert mine["row"]["method"].pop("factor", 1.0) == row.method.factor, run
        arm["row"]["method"].pop("factor", None)
        assert mine == arm, run


def test_every_trial_is_in_the_table_beside_its_baseline() -> None:
    rows, shown = load_rows(), set[str]()
    for spec in TABLES.values():
        key = spec.delta
        for group in dict.fromkeys(row.group for row in spec.rows):
            members = [row for row in spec.rows if row.group == group]
            tried = {str(row.run): rows[str(row.run)] for row in members if rows[str(row.run)].method is not None}
            assert sorted(row.method.factor for row in tried.values() if row.method) == list(FACTORS), group
            arms = {row.method.factor_from for row in tried.values() if row.method} - {""}
            assert len(arms) == 1, group
            baselines = {str(row.against) for row in members if row.against is not None}
            assert [row.run for row in members if row.role == "baseline"] == list(baselines), group
            assert all(rows[run].teacher is None for run in baselines), group
            assert all(MAIN[load_run(run, "sim", 0).data.kind][0] == key for run in tried), group
            shown |= set(tried)
    assert set(trial_rows()) <= shown


def test_a_factor_says_where_it_comes_from() -> None:
    for run, row in load_rows().items():
        if row.method is not None and row.method.factor != 1.0:
            assert row.method.factor_from, f"{run}: method.factor_from names the row whose trials chose the factor"


def test_factors_of_the_study_are_those_that_the_rule_picks() -> None:
    """By the committed tables of the trials."""
    rows = load_rows()
    picked: dict[str, float] = {}
    for name, spec in TABLES.items():
        if table_file(RESULTS, name).exists():
            for choice in choices(tables.read(spec, table_file(RESULTS, name), rows)):
                methods = [rows[run].method for run in choice.runs]
                (arm,) = {method.factor_from for method in methods if method is not None} - {""}
                if choice.factor is not None:
                    picked[arm] = choice.factor
    tuned = {
        run: row.method
        for run, row in rows.items()
        if row.target != "tuning" and row.method is not None and row.method.factor_from
    }
    if not picked and not tuned:
        pytest.skip("no factor has been measured yet: results/tables has no trials with a choice")
    for run, method in tuned.items():
        assert method.factor_from in picked, f"{run}: nothing was chosen on trials of {method.factor_from}"
        assert method.factor == picked[method.factor_from], run
    for arm, factor in picked.items():
        if factor != 1.0:
            assert arm in {method.factor_from for method in tuned.values()}, f"no row has the factor chosen for {arm}"


def test_the_names_of_factors() -> None:
    assert factors.said(0.3) == "losses ×0.3"
    assert factors.said(3.0) == "losses ×3"


def test_the_committed_plan_can_be_made(tmp_path: Path) -> None:
    """The table of today's trials, from runs as they would be."""
    rows = load_rows()
    for run, seed in TABLES["method_factors"].needs(rows):
        write_run(tmp_path / "runs", rows[run], seed, 0.1 + 0.001 * seed)
    _, markdown, _ = make_table("method_factors", "sim", tmp_path / "runs")
    text = markdown.read_text(encoding="utf-8")
    groups = {row.group for row in TABLES["method_factors"].rows}
    assert text.count("(chosen)") == len(groups), "equal means: the published weights of every arm"
    assert text.count("losses ×1, as published (chosen)") == len(groups)
