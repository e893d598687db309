"""Tables and claims that follow from comparisons: a made-up paper with students x compressions x methods."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bevkd.config import load_rows, tiers
from bevkd.errors import ConfigError
from bevkd.report import reference
from bevkd.report.comparisons import columns
from bevkd.report.spec import load_claims, load_tables

FILES = {
    "models/narrow.yaml": "{like: lidar_pillar, width: 0.5}",
    "models/thin.yaml": "{like: lidar_pillar, width: 0.25}",
    "papers/pd/recipe.yaml": "paper: PointDistiller",
    "papers/pd/runs.yaml": """
        defaults: {dataset: kitti_sim, seeds: [0, 1, 2]}
        runs:
          pd_teacher: {model: lidar_pillar, seeds: [0]}
          students:
            for: {net: {4x: {model: narrow}, 16x: {model: thin}}}
            each:
              "pd_{net}": {model: "{model}"}
              distilled:
                for: {kd: {ours: {method: imitation}, yang: {method: pseudo_boxes}}}
                each:
                  "pd_{net}_{kd}": {like: "pd_{net}", teacher: pd_teacher, method: {kind: "{method}"}}
    """,
    "papers/pd/claims.yaml": """
        controls:
          twin: {like: "{arm}", teacher: "{baseline}", doc: "control: taught by the student itself"}
        metrics: {both: {_bev: bev_mean_moderate, _3d: 3d_mean_moderate}}
        comparisons:
          m1:
            for: {net: [4x, 16x], kd: {ours: {by: PointDistiller}, yang: {by: Yang}}}
            each:
              "pd_{net}_{kd}":
                runs: {arm: "pd_{net}_{kd}", baseline: "pd_{net}", twin: "pd_{net}_{kd}_twin"}
                words: {net: "{net}", by: "{by}"}
                metrics: both
                source: Table M1
                statement: "{by} improves the {net} student in {metric}."
                target: extended
                at: {paper: {pd_4x: pd_16x}}
    """,
    "papers/pd/tables.yaml": """
        columns:
          kitti: {BEV: [{bev_mean_moderate: BEV_mAP_R40@moderate}], 3D: [{3d_mean_moderate: 3D_mAP_R40@moderate}]}
        tables:
          pd_m1:
            caption: Students by methods.
            published: M1
            columns: kitti
            target: extended
            delta: bev_mean_moderate
            show: [teacher, baseline, arm, twin]
            group: "PointPillars {net}"
            labels: {teacher: teacher, baseline: student, arm: "{by}", twin: "{by}, twin"}
            rows:
              - for: {net: [4x, 16x]}
                each:
                  - comparisons: ["pd_{net}_ours", "pd_{net}_yang"]
                    published:
                      teacher: {row_label: PointPillars, variant: teacher}
                      baseline: {row_label: PointPillars, variant: "{net};no KD"}
              - {group: pools, against: pd_4x, pool: ["", _ours], check: {pooled: pd_16x}}
    """,
}


@pytest.fixture
def paper(config_copy: Path) -> None:
    for name, text in FILES.items():
        path = config_copy / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)


def test_rows_are_the_product(paper: None) -> None:
    rows = {run: row for run, row in load_rows().items() if run.startswith("pd_")}
    made = {f"pd_{net}_{kd}_twin" for net in ("4x", "16x") for kd in ("ours", "yang")}
    assert set(rows) == made | {
        "pd_teacher",
        *(f"pd_{net}{kd}" for net in ("4x", "16x") for kd in ("", "_ours", "_yang")),
    }
    twin = rows["pd_16x_yang_twin"]
    assert (twin.model, twin.teacher, twin.method and twin.method.kind) == ("thin", "pd_16x", "pseudo_boxes")


def test_table_rows_follow(paper: None) -> None:
    table = load_tables()["pd_m1"]
    assert (table.title, table.part) == ("PointDistiller, Table M1", "pd")
    assert [(c.panel, c.key) for c in table.columns] == [("BEV", "bev_mean_moderate"), ("3D", "3d_mean_moderate")]
    rows = [(r.group, r.role, r.label, r.run, r.against) for r in table.rows]
    net = "PointPillars 16x"
    assert rows[6:12] == [
        (net, "teacher", "teacher", "pd_teacher", None),
        (net, "baseline", "student", "pd_16x", None),
        (net, "distilled", "PointDistiller", "pd_16x_ours", "pd_16x"),
        (net, "distilled", "Yang", "pd_16x_yang", "pd_16x"),
        (net, "control", "PointDistiller, twin", "pd_16x_ours_twin", "pd_16x"),
        (net, "control", "Yang, twin", "pd_16x_yang_twin", "pd_16x"),
    ]
    assert rows[12:] == [("pools", "check", "pooled", ("pd_16x", "pd_16x_ours"), ("pd_4x", "pd_4x_ours"))]
    printed = [
        reference.select({**table.published, **column.selector, **row.published}).value
        for row in table.rows[:2]
        for column in table.columns[:1]
        if row.published is not None
    ]
    assert printed == [68.3, 66.4]  # PointDistiller, Table M1: teacher and 4x student, BEV mAP


def test_one_claim_per_metric_with_its_controls(paper: None) -> None:
    claims = {name: claim for name, claim in load_claims().items() if name.startswith("pd_")}
    assert len(claims) == 2 * 2 * 2
    claim = claims["pd_4x_yang_3d"]
    assert (claim.better, claim.than, claim.controls) == ("pd_4x_yang", "pd_4x", ("pd_4x_yang_twin",))
    assert (claim.statement, claim.source) == ("Yang improves the 4x student in 3d_mean_moderate.", "Table M1")
    assert (claim.paper, claim.part, claim.target, claim.control) == ("PointDistiller", "pd", "extended", "due")
    assert load_claims("paper")["pd_4x_yang_3d"].than == "pd_16x"
    row = next(r for r in load_tables("paper")["pd_m1"].rows if r.run == "pd_4x_ours")  # type: ignore[union-attr]
    assert row.against == "pd_16x"


def test_a_published_gain_is_of_one_claim(config_copy: Path) -> None:
    path = config_copy / "papers" / "crkd" / "claims.yaml"
    text = path.read_text()
    assert text.count("    source: supplement, A.4\n") == 1
    path.write_text(text.replace("    source: supplement, A.4\n", "    table: crkd_s5\n"))
    with pytest.raises(ConfigError, match=r"'crkd_a4_l1': a published gain is of one metric, and in the place"):
        load_claims()


def test_the_example_of_the_guide(config_copy: Path) -> None:
    """docs/comparisons.md says what follows from its three files."""
    text = (Path(__file__).resolve().parents[2] / "docs" / "comparisons.md").read_text()
    for name, block in re.findall(r"```yaml\n# config/(papers/mine/\w+\.yaml)\n(.*?)```", text, re.DOTALL):
        (config_copy / name).write_text(block)
    for size, width in (("half", 0.5), ("quarter", 0.25)):
        (config_copy / "models" / f"lidar_{size}.yaml").write_text(f"{{like: lidar_pillar, width: {width}}}")
    assert sum(run.startswith("mine_") for run in load_rows()) == 8
    rows = load_tables()["mine"].rows
    assert [(row.group, row.label, row.against) for row in rows[4:]] == [
        ("quarter", "student", None),
        ("quarter", "dense", "mine_quarter"),
        ("quarter", "imitation", "mine_quarter"),
        ("quarter", "doubled heat-map loss", "mine_quarter"),
    ]
    claims = {name: claim for name, claim in load_claims().items() if claim.part == "mine"}
    assert len(claims) == 8
    assert claims["mine_half_dense_map"].controls == ("mine_half_doubled",)


def test_columns_in_short_form() -> None:
    named = {"set": ["mAP", {"NDS": {"metric": "NDS", "class": "all"}}]}
    assert columns("set", named, "here")[1] == {"key": "NDS", "reference": {"metric": "NDS", "class": "all"}}
    assert columns({"P": [["mAP", "NDS"], {"mATE": "m"}]}, {}, "here") == [
        {"key": "mAP", "panel": "P"},
        {"key": "NDS", "panel": "P"},
        {"key": "mATE", "reference": {"metric": "m"}, "panel": "P"},
    ]


def test_the_preview_is_drawn_from_what_all_trains() -> None:
    """One seed of baseline, teacher and distilled student, of every paper with claims."""
    rows, tables = load_rows(), tiers.of_target(load_tables(), "preview")
    assert {table.part for table in tables.values()} == {claim.part for claim in load_claims().values()}
    for table in tables.values():
        assert {row.role for row in table.rows} == {"baseline", "teacher", "distilled"}
        needs = table.needs(rows)
        assert len({run for run, _ in needs}) == len(needs) == 3
        assert all(rows[run].target == "all" and seed == rows[run].seeds[0] for run, seed in needs)
        assert "n = 1" in " ".join(table.notes)


def test_tiers_say_what_belongs_to_them() -> None:
    tables = load_tables()
    assert set(tiers.of_target(tables, "all")) < set(tiers.of_target(tables, "extended"))
    assert "label_efficiency_extended" not in tiers.of_target(tables, "all")
    assert set(tiers.of_target(tables, "tuning")) == {
        "baseline_tuning",
        "method_factors",
        "power",
        "simdistill_factors",
        "simdistill_power",
        "simdistill_schedule",
        "simdistill_tune_controls",
        "crkd_factors",
        "crkd_power",
        "distillbev_factors",
    }
    assert not set(tiers.of_target(tables, "preview")) & set(tiers.of_target(tables, "extended"))
