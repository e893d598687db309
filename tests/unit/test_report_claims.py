from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from report_synthetic import write_run

from bevkd.config import RowConfig
from bevkd.config.comparisons import Comparison
from bevkd.errors import ConfigError, DataError
from bevkd.report import claims, frames, ledger
from bevkd.report.claims import CONTRADICTED, INCONCLUSIVE, REPRODUCED, answer, judge
from bevkd.report.comparisons import claims_of
from bevkd.report.runs import Runs, cost_file
from bevkd.report.spec import ClaimConfig, load_claims, pool
from bevkd.report.stats import Interval

SEEDS = (0, 1, 2)


def row(name: str, seeds: tuple[int, ...] = SEEDS, subset: int = 0) -> RowConfig:
    return RowConfig(id=name, dataset="d", model="camera", seeds=seeds, labelled_subset=subset)


def claim(**changes: object) -> ClaimConfig:
    given = {"id": "c", "paper": "P", "statement": "s", "metric": "mAP", "better": "a", "than": "b"} | changes
    return ClaimConfig(**given)  # type: ignore[arg-type]


def runs_with(tmp_path: Path, **values: list[float]) -> Runs:
    """Runs of one seed per value, mAP in percent."""
    rows = {name: row(name, tuple(range(len(v)))) for name, v in values.items()}
    for name, series in values.items():
        for seed, value in enumerate(series):
            write_run(tmp_path, rows[name], seed, value / 100)
    return Runs(tmp_path, "sim", rows)


def test_a_claim_may_be_of_another_split_but_not_of_the_one_for_tuning(tmp_path: Path) -> None:
    runs = runs_with(tmp_path, a=[20.0, 22.0, 21.0], b=[10.0, 12.0, 10.5])
    for run, shift in (("a", 0.0), ("b", 0.02)):
        for seed in SEEDS:
            content = {"mean_ap": 0.1 + 0.01 * seed + shift}
            (runs.folder(run, seed) / "metrics_conditions.json").write_text(json.dumps(content))
    assert answer(claim(), runs).effect == pytest.approx(10.166667)
    found = answer(claim(split="conditions"), runs)
    assert (found.effect, found.verdict) == (pytest.approx(-2.0), CONTRADICTED)
    assert found.note.endswith("; on the conditions split")
    assert "split" not in answer(claim(), runs).note
    with pytest.raises(ValueError, match="settings are chosen on"):
        claim(split="tune")


@pytest.mark.parametrize(
    ("effect", "control", "verdict"),
    [
        (Interval(2, 1, 3, 3), None, REPRODUCED),
        (Interval(2, 1, 3, 3), Interval(1, 0.2, 1.8, 3), REPRODUCED),
        (Interval(2, 1, 3, 3), Interval(1, -0.2, 2.2, 3), INCONCLUSIVE),
        (Interval(2, 1, 3, 3), Interval(-1, -1.5, -0.5, 3), INCONCLUSIVE),
        (Interval(2, 1, 3, 3), Interval(5, math.nan, math.nan, 1), INCONCLUSIVE),
        (Interval(1, -1, 3, 3), Interval(5, 4, 6, 3), INCONCLUSIVE),
        (Interval(1, 0, 2, 3), None, INCONCLUSIVE),
        (Interval(-2, -3, -1, 3), None, CONTRADICTED),
        (Interval(-2, -3, -1, 3), Interval(1, 0.5, 1.5, 3), CONTRADICTED),
        (Interval(9, math.nan, math.nan, 1), None, INCONCLUSIVE),
    ],
)
def test_verdicts_of_greater(effect: Interval, control: Interval | None, verdict: str):
    spec = claim(controls=["k"]) if control else claim(control="not_due")
    assert judge(spec, effect, control, "k")[0] == verdict


def test_without_its_control_no_claim_is_reproduced(tmp_path: Path):
    gain, loss = Interval(2, 1, 3, 3), Interval(-2, -3, -1, 3)
    assert judge(claim(), gain, None) == (INCONCLUSIVE, "gain over the baseline, but no control declared")
    assert judge(claim(), loss, None)[0] == CONTRADICTED
    assert judge(claim(control="not_due"), gain, None)[0] == REPRODUCED

    values = {"a": [20.0, 20.1, 20.2], "b": [10.0, 10.1, 10.2], "weak": [11.0, 11.1, 11.2], "late": [12.0, 12.0, 12.0]}
    runs = runs_with(tmp_path, **values)
    both = claim(controls=["weak", "late"])
    assert answer(both, runs).verdict == REPRODUCED
    (runs.folder("late", 1) / "metrics_val.json").unlink()
    finding = answer(both, runs)
    assert (finding.verdict, finding.control_run) == (INCONCLUSIVE, "weak")
    assert finding.note == "gain over the baseline, but control late has not been run"
    (runs.folder("late", 1) / "metrics_val.json").write_text("{}")
    with pytest.raises(DataError, match="late"):  # there, but unusable
        answer(both, runs)


def test_a_control_of_a_later_tier_is_not_waited_for(tmp_path: Path):
    rows = {name: row(name) for name in ("a", "b", "near")} | {"late": replace(row("late"), target="extended")}
    both = claim(controls=["near", "late"])
    assert {run for run, _ in both.needs(rows)} == {"a", "b", "near"}
    assert {run for run, _ in replace(both, target="extended").needs(rows)} == set(rows)
    with pytest.raises(ConfigError, match="of tier 'all' needs run 'late' of tier 'extended'"):
        claim(than="late", controls=["near"]).needs(rows)


@pytest.mark.parametrize(
    ("effect", "verdict"),
    [
        (Interval(0.1, -0.9, 1.1, 3), REPRODUCED),
        (Interval(1.0, 0.5, 1.5, 3), REPRODUCED),  # resolved, but smaller than what counts
        (Interval(0.1, -3, 3.2, 3), INCONCLUSIVE),  # no difference found is no proof of none
        (Interval(3, 1.5, 4.5, 3), CONTRADICTED),
        (Interval(-3, -4.5, -1.5, 3), CONTRADICTED),
    ],
)
def test_verdicts_of_no_difference(effect: Interval, verdict: str):
    assert judge(claim(kind="no_difference", margin=2.0), effect, None)[0] == verdict


def test_effect_and_interval_by_hand(tmp_path: Path):
    runs = runs_with(tmp_path, a=[13.0, 13.0, 16.0], b=[11.0, 12.0, 13.0])
    finding = answer(claim(), runs)
    # differences 2, 1, 3: mean 2, half width 2.484138
    assert finding.effect == pytest.approx(2.0)
    assert finding.ci_low == pytest.approx(-0.484138, abs=1e-5)
    assert finding.ci_high == pytest.approx(4.484138, abs=1e-5)
    assert (finding.n, finding.verdict) == (3, INCONCLUSIVE)
    assert math.isnan(finding.control_effect)


def test_the_strongest_control_decides(tmp_path: Path):
    base = [10.0, 11.0, 12.0]
    runs = runs_with(
        tmp_path,
        a=[x + 5 + d for x, d in zip(base, (0.0, 0.1, -0.1), strict=True)],
        b=base,
        weak=[x + 1 for x in base],
        strong=[x + 4.9 + d for x, d in zip(base, (0.5, -0.5, 0.0), strict=True)],
    )
    weak = answer(claim(controls=["weak"]), runs)
    assert (weak.verdict, weak.control_run) == (REPRODUCED, "weak")
    both = answer(claim(controls=["weak", "strong"]), runs)
    assert (both.verdict, both.control_run) == (INCONCLUSIVE, "strong")
    assert both.control_effect == pytest.approx(0.1)
    assert "strong" in both.note


def test_a_control_with_a_wide_interval_is_not_overlooked(tmp_path: Path):
    base = [10.0, 11.0, 12.0]
    runs = runs_with(
        tmp_path,
        a=[x + 5 for x in base],
        b=base,
        near=[x + 4 for x in base],
        wide=[x + 3 + d for x, d in zip(base, (3.0, -3.0, 0.0), strict=True)],
    )
    finding = answer(claim(controls=["near", "wide"]), runs)
    assert (finding.verdict, finding.control_run) == (INCONCLUSIVE, "wide")


def test_contradicted(tmp_path: Path):
    runs = runs_with(tmp_path, a=[8.0, 9.1, 10.0], b=[10.0, 11.0, 12.0])
    assert answer(claim(), runs).verdict == CONTRADICTED


def test_lower_errors_count_as_better(tmp_path: Path):
    runs = runs_with(tmp_path, a=[60.0, 61.0, 62.0], b=[20.0, 21.0, 22.0])
    # The synthetic errors fall as mAP rises, so the better run has the lower mAVE.
    mave = {name: [v["mAVE"] for v in runs.values(name, "report", ["mAVE"]).values()] for name in ("a", "b")}
    assert all(x < y for x, y in zip(mave["a"], mave["b"], strict=True))
    finding = answer(claim(metric="mAVE"), runs)
    assert finding.effect == pytest.approx(sum(mave["b"]) / 3 - sum(mave["a"]) / 3)
    assert finding.effect > 0


def test_subsets_are_the_repetitions_when_asked(tmp_path: Path):
    rows = {name: row(name, (0, 1), subset) for name, subset in (("a0", 0), ("a1", 1), ("a2", 2))}
    rows |= {name.replace("a", "b"): row(name.replace("a", "b"), (0, 1), r.labelled_subset) for name, r in rows.items()}
    gains = {"0": (1.0, 3.0), "1": (2.0, 4.0), "2": (4.0, 4.0)}
    for subset, pair in gains.items():
        for seed, gain in enumerate(pair):
            write_run(tmp_path, rows[f"a{subset}"], seed, (10 + gain) / 100)
            write_run(tmp_path, rows[f"b{subset}"], seed, 0.10)
    pools = {"better": ("a0", "a1", "a2"), "than": ("b0", "b1", "b2")}
    runs = Runs(tmp_path, "sim", rows)
    seeds, subsets = answer(claim(**pools), runs), answer(claim(**pools, over="subsets"), runs)
    assert (seeds.n, subsets.n) == (6, 3)
    assert seeds.effect == pytest.approx(3.0)
    # subset means 2, 3, 4: mean 3, half width 2.484138
    assert subsets.ci_low == pytest.approx(3 - 2.484138, abs=1e-5)


def test_missing_run_names_run_and_file(tmp_path: Path):
    runs = runs_with(tmp_path, a=[10.0, 11.0], b=[10.0, 11.0])
    (tmp_path / "sim" / "b" / "seed1" / "metrics_val.json").unlink()
    with pytest.raises(DataError, match=r"run 'b' has no metrics for seed 1.*metrics_val\.json"):
        answer(claim(), runs)


def test_unknown_run_and_disjoint_seeds():
    rows = {"a": row("a", (0,)), "b": row("b", (1,))}
    with pytest.raises(ConfigError, match="share no seed"):
        claim().needs(rows)
    with pytest.raises(ConfigError, match="unknown run 'bb'"):
        claim(than="bb").needs(rows)


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "no_difference"},
        {"margin": 1.0},
        {"kind": "no_difference", "margin": -1.0},
        {"kind": "no_difference", "margin": 1.0, "controls": ["k"]},
        {"kind": "at_most"},
        {"kind": "at_least"},
        {"kind": "at_most", "margin": 1.0, "controls": ["k"]},
        {"better": ["a", "a2"]},
        {"over": "repeats"},
        {"metric": "loss_time_live"},
    ],
)
def test_claims_that_make_no_sense(changes: dict[str, object]):
    with pytest.raises(ValueError):
        claim(**changes)


@pytest.mark.parametrize(
    ("increases", "verdict", "note"),
    [
        ([10.0, 11.0, 12.0], REPRODUCED, "interval lies below 15.8"),
        ([24.0, 26.0, 25.0], CONTRADICTED, "interval lies above 15.8"),
        ([10.0, 22.0, 16.0], INCONCLUSIVE, "interval includes 15.8"),
        ([10.0], INCONCLUSIVE, "one pair only: no interval"),
    ],
)
def test_a_bound_has_no_baseline(tmp_path: Path, increases: list[float], verdict: str, note: str):
    rows = {name: RowConfig(id=name, dataset="d", model="camera", seeds=(0,)) for name in ("taught", "plain")}
    for row in rows.values():
        write_run(tmp_path / "runs", row, 0, 0.1)
    content = {"repeats": [{"live": {"step_increase": value}} for value in increases]}
    cost_file("taught", "sim", tmp_path / "runs").write_text(json.dumps(content))
    settings = {"metric": "step_time_increase_live", "better": "taught", "than": "plain", "over": "repeats"}
    bound = claim(kind="at_most", margin=15.8, control="not_due", **settings)
    found = answer(bound, Runs(tmp_path / "runs", "sim", rows))
    assert (found.verdict, found.note, found.n) == (verdict, note, len(increases))
    assert found.effect == pytest.approx(15.8 - sum(increases) / len(increases))
    other = answer(replace(bound, kind="at_least"), Runs(tmp_path / "runs", "sim", rows))
    assert other.effect == pytest.approx(-found.effect)
    turned = {REPRODUCED: CONTRADICTED, CONTRADICTED: REPRODUCED, INCONCLUSIVE: INCONCLUSIVE}
    assert (other.verdict, other.note) == (turned[verdict], note)
    assert math.isnan(found.target_half_width)
    if len(increases) > 1:
        assert (found.p_value < 0.05) == (verdict != INCONCLUSIVE)
    (alone,) = claims.corrected([found])
    assert math.isnan(alone.p_holm), "no member of the family of gains"
    assert alone.verdict_holm == verdict


def test_ledger_round_trip(tmp_path: Path):
    runs = runs_with(tmp_path, a=[13.0, 13.5, 16.0], b=[11.0, 12.0, 13.0], k=[11.0, 11.0, 11.0])
    found = [answer(claim(controls=["k"]), runs), answer(claim(id="d", kind="no_difference", margin=3.0), runs)]
    path = tmp_path / "claims.csv"
    path.write_text(frames.to_csv(ledger.to_frame(found)))
    head = path.read_text().splitlines()[0].split(",")
    contract = "paper, claim, statement, metric, effect, ci_low, ci_high, n, control_effect, verdict"
    assert head[:10] == contract.split(", ")
    again = ledger.read(path)
    assert [f.verdict for f in again] == [f.verdict for f in found]
    assert again[0].effect == pytest.approx(found[0].effect, abs=1e-4)
    assert math.isnan(again[1].control_effect)
    assert frames.to_csv(ledger.to_frame(again)) == path.read_text()


def test_project_claims_have_the_controls():
    """A gain over a baseline that a teacher is said to cause is only claimed against both controls."""
    claims = load_claims().values()
    gains = [c for c in claims if c.kind == "greater" and pool(c.than)[0].endswith(("_base", "_further"))]
    assert len(gains) > 15
    for c in (one for one in gains if not one.metric.startswith("attention_")):  # where a student looks is no gain
        if not c.controls:  # due, so that it cannot be reproduced; the same claim of a later tier has them
            assert c.control == "due", c.id
            assert any(k.controls and (k.better, k.than, k.metric) == (c.better, c.than, c.metric) for k in claims), (
                c.id
            )
            continue
        # A training loss under other weights is another loss: it cannot be compared.
        other = c.metric.startswith("det_loss")
        # Their extended study has it, of the same baseline.
        other |= c.protocol == "unlabelled" and c.part in ("distillbev", "simdistill")
        assert other or any("reweighted" in str(k) for k in c.controls), c.id
        if c.better != "le_l_to_l":  # itself a teacher of the student's modality
            assert any("_to_" in str(k) or "_own" in str(k) for k in c.controls), c.id


def test_detection_loss_at_the_end_of_training(tmp_path: Path):
    rows = {name: RowConfig(id=name, dataset="d", model="camera", seeds=(0, 1, 2)) for name in ("a", "b")}
    for name, shift in (("a", 0.0), ("b", 1.0)):
        for seed in range(3):
            folder = write_run(tmp_path / "runs", rows[name], seed, 0.1)
            lines = []
            for step in range(10, 101, 10):
                value = 9.0 if step <= 90 else 0.0 + shift + 0.02 * seed
                lines.append(json.dumps({"step": step, "losses": {"heatmap": value, "loc": 4.0}}))
            (folder / "log.jsonl").write_text("\n".join(lines) + "\n")
    runs = Runs(tmp_path / "runs", "sim", rows)
    found = runs.values("b", "report", ["det_loss"])
    assert {seed: values["det_loss"] for seed, values in found.items()} == pytest.approx({0: 2.0, 1: 2.02, 2: 2.04})
    everywhere = runs.values("b", "report", ["det_loss_mean"])[1]["det_loss_mean"]
    assert everywhere == pytest.approx((9 * 10.0 + 2.02) / 10)
    claim = ClaimConfig(id="c", paper="P", statement="s", metric="det_loss", better="a", than="b")
    assert claim.artefacts == ("log",)
    assert claims.answer(claim, runs).effect == pytest.approx(1.0)  # a lower loss is better


def test_costs_are_compared_repeat_by_repeat(tmp_path: Path):
    rows = {name: RowConfig(id=name, dataset="d", model="camera", seeds=(0,)) for name in ("plain", "taught")}
    times = {"plain": [0.10, 0.12, 0.11], "taught": [0.30, 0.33, 0.31]}
    for name, row in rows.items():
        write_run(tmp_path / "runs", row, 0, 0.1)
        content = {"repeats": [{"live": {"loss_s": seconds}} for seconds in times[name]]}
        cost_file(name, "sim", tmp_path / "runs").write_text(json.dumps(content))
    runs = Runs(tmp_path / "runs", "sim", rows)
    dearer = claim(metric="loss_time_live", better="plain", than="taught", over="repeats", control="not_due")
    found = answer(dearer, runs)
    assert (found.n, found.over, found.verdict) == (3, "repeats", "reproduced")
    assert found.effect == pytest.approx(sum(b - a for a, b in zip(*times.values(), strict=True)) / 3)
    for broken in ({}, {"repeats": []}, []):
        cost_file("plain", "sim", tmp_path / "runs").write_text(json.dumps(broken))
        with pytest.raises(DataError, match="not what a benchmark writes"):
            answer(dearer, runs)


# --- what a line of the ledger says beside its verdict


def test_the_ledger_says_what_it_could_have_seen(tmp_path: Path):
    runs = runs_with(tmp_path, a=[10.0, 12.0, 10.5], b=[10.0, 10.1, 10.2])
    cells = load_claims()["path2_map"].published
    finding = answer(claim(control="not_due", paper="UniDistill", published=cells), runs)
    assert finding.smallest_effect == pytest.approx((finding.ci_high - finding.ci_low) / 2)
    assert finding.target_half_width == pytest.approx((29.6 - 26.4) / 26.4 * 10.1 / 3)
    assert finding.smallest_effect > finding.target_half_width
    wide = (
        f"could have seen {finding.smallest_effect:.1f} % at the least, a third of the published relative gain is 0.4"
    )
    assert finding.note == f"interval includes 0; {wide}"
    narrow = answer(claim(control="not_due"), runs)
    assert math.isnan(narrow.target_half_width)
    assert narrow.note == "interval includes 0"
    assert (finding.protocol, finding.covers) == ("published", "seeds")


def test_intervals_say_what_they_cover(tmp_path: Path):
    rows = {"t": row("t", (0, 1)), "b": row("b")}
    rows["one"] = replace(row("one"), teacher="t")
    rows["two"] = replace(row("two"), teacher="t", teacher_seed=(0, 1))
    covers = claims.covers
    assert covers(claim(better="one"), rows) == "student seeds, one teacher"
    assert covers(claim(better="two"), rows) == "student seeds, 2 teacher seeds"
    assert covers(claim(better="two", controls=["one"]), rows) == "student seeds, one teacher", "of the fewest"
    assert covers(claim(better="b", than="t"), rows) == "seeds"
    assert covers(claim(better="one", over="subsets"), rows) == "labelled subsets, each with its teacher"
    assert covers(claim(metric="loss_time_live", over="repeats"), rows) == "repeats of a benchmark"


def test_p_and_verdict_go_together(tmp_path: Path):
    values = {"a": [20.0, 20.1, 20.2], "b": [10.0, 10.3, 10.1], "close": [19.9, 20.2, 20.1], "c": [30.0, 30.2, 30.1]}
    runs = runs_with(tmp_path, **values)
    good = answer(claim(id="good", controls=["b"]), runs)
    open_ = answer(claim(id="open", controls=["close"]), runs)
    bad = answer(claim(id="bad", than="c"), runs)
    none_declared = answer(claim(id="none"), runs)
    null = answer(claim(id="null", kind="no_difference", margin=2.0, than="close"), runs)
    assert [f.verdict for f in (good, open_, bad, none_declared, null)] == [
        *(REPRODUCED, INCONCLUSIVE, CONTRADICTED, INCONCLUSIVE, REPRODUCED),
    ]
    assert good.p_value < 0.05
    assert open_.p_value > 0.05
    assert bad.p_value < 0.05
    assert math.isnan(none_declared.p_value), "one of its tests is missing"
    assert null.p_value < 0.025
    assert all(math.isnan(f.p_holm) for f in (good, open_, bad, null)), "a part has a family, a claim has none"


def test_the_correction_is_over_the_gains_of_a_part(tmp_path: Path):
    runs = runs_with(tmp_path, a=[20.0, 21.5, 20.2], b=[18.0, 18.2, 18.1])
    one = answer(claim(id="one", control="not_due"), runs)
    assert one.verdict == REPRODUCED
    assert 0.01 < one.p_value < 0.05
    null = answer(claim(id="null", kind="no_difference", margin=9.0), runs)
    assert null.verdict == REPRODUCED
    alone = claims.corrected([one, null])
    assert alone[0].p_holm == one.p_value, "a declared null is no member"
    assert [f.verdict_holm for f in alone] == [REPRODUCED, null.verdict]
    many = claims.corrected([one, replace(one, claim="two"), replace(one, claim="untested", p_value=math.nan)])
    assert many[0].p_holm == pytest.approx(3 * one.p_value)
    assert [(f.verdict, f.verdict_holm) for f in many[:2]] == [(REPRODUCED, INCONCLUSIVE)] * 2
    assert math.isnan(many[2].p_holm)
    assert many[2].verdict_holm == INCONCLUSIVE


def test_errors_that_score_nothing_are_not_learnt(tmp_path: Path):
    runs = runs_with(tmp_path, a=[10.0, 10.1, 10.2], b=[10.0, 10.1, 10.2])

    def error(run: str, values: list[float]) -> None:
        for seed, value in enumerate(values):
            path = runs.folder(run, seed) / "metrics_val.json"
            content = json.loads(path.read_text())
            content["tp_errors"]["orient_err"] = value
            path.write_text(json.dumps(content))

    error("a", [1.2, 1.21, 1.22])
    error("b", [1.4, 1.41, 1.43])
    turned = claim(metric="mAOE", control="not_due")
    finding = answer(turned, runs)
    assert finding.verdict == INCONCLUSIVE, "though the interval lies above 0"
    assert finding.ci_low > 0
    assert finding.note == "not learnt (1.210 and 1.413 rad; from 1.000 on an error scores 0)"
    assert math.isnan(finding.p_value)
    error("a", [0.9, 0.91, 0.92])
    assert answer(turned, runs).verdict == REPRODUCED, "one side has learnt it"
    assert answer(claim(control="not_due"), runs).note == "interval includes 0"


def test_ledgers_of_before_are_read(tmp_path: Path):
    runs = runs_with(tmp_path, a=[20.0, 20.9, 20.2], b=[18.0, 18.2, 18.1])
    findings = claims.corrected([answer(claim(control="not_due"), runs)])
    frame = ledger.to_frame(findings)
    (tmp_path / "new.csv").write_text(frames.to_csv(frame))
    (again,) = ledger.read(tmp_path / "new.csv")
    assert (again.protocol, again.verdict_holm) == ("published", REPRODUCED)
    assert again.p_holm == pytest.approx(findings[0].p_holm, abs=1e-4)
    newer = ["protocol", "covers", "smallest_effect", "target_half_width", "p_value", "p_holm", "verdict_holm"]
    (tmp_path / "old.csv").write_text(frames.to_csv(frame.drop(columns=newer)))
    (old,) = ledger.read(tmp_path / "old.csv")
    assert (old.effect, old.protocol, old.verdict_holm) == (again.effect, "", "")
    assert math.isnan(old.p_value)
    (tmp_path / "odd.csv").write_text(frames.to_csv(frame.drop(columns=["effect"])))
    with pytest.raises(frames.ColumnsError):
        ledger.read(tmp_path / "odd.csv")


def test_a_comparison_says_the_split_of_its_claims_scale_by_scale():
    item = Comparison(
        name="c",
        arm="camera_base",
        baseline="lidar_base",
        metrics={"": "mAP"},
        statement="s",
        source="Table 1",
        split="conditions",
        at={"paper": {"split": "report"}},
    )
    for scale, split in ((None, "conditions"), ("sim", "conditions"), ("paper", "report")):
        (plain,) = claims_of(item, "P", {}, scale, "where")
        assert plain["split"] == split
        assert (plain["better"], plain["than"]) == ("camera_base", "lidar_base")
    assert next(claims_of(replace(item, split="report"), "P", {}, None, "where"))["split"] == "report"
