from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from bevkd.config import RowConfig, config_dir, load_rows, load_run, parse
from bevkd.errors import ConfigError, DataError
from bevkd.report import reference
from bevkd.report.figure_kinds import CurveSpec, Dots, PanelSpec, SeriesSpec
from bevkd.report.metrics import METRICS, metric, value_of
from bevkd.report.spec import TableConfig, load_claims, load_figures, load_tables, pool

FOLDER = config_dir()


@pytest.fixture
def own_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A whole config folder of one paper with the runs `r`, `q`."""
    (tmp_path / "papers" / "x").mkdir(parents=True)
    (tmp_path / "scales").mkdir()
    (tmp_path / "config.yaml").touch()
    runs = {run: {"dataset": "d", "model": "m"} for run in ("r", "q")}
    (tmp_path / "papers" / "x" / "runs.yaml").write_text(yaml.safe_dump({"runs": runs}))
    monkeypatch.setenv("BEVKD_CONFIG", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    "item", [*load_tables().values(), *load_figures().values(), *load_claims().values()], ids=lambda i: i.name
)
def test_every_item_names_known_runs(item):
    rows = load_rows()
    needs = item.needs(rows)
    assert len(needs) == len(set(needs))
    assert all(seed in rows[run].seeds for run, seed in needs)
    assert bool(needs) == bool(item.artefacts), "what reads nothing waits for nothing"
    if item.target in ("all", "preview"):
        assert all(rows[run].target == "all" for run, _ in needs), "target all must not wait for extended runs"


def test_unknown_run_names_table_and_nearest():
    rows = {"camera_base": RowConfig(id="camera_base", dataset="d", model="m")}
    table = parse(
        TableConfig,
        {
            "name": "t",
            "title": "",
            "caption": "",
            "columns": [{"key": "mAP"}],
            "rows": [{"label": "x", "run": "camera_bas"}],
        },
        "t",
    )
    with pytest.raises(ConfigError, match=r"table 't'.*camera_bas.*did you mean 'camera_base'"):
        table.needs(rows)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colour": 1}, r"x/tables\.yaml: table 't': unknown key 'colour'"),
        ({"titel": "t"}, "unknown key 'titel' .*'title'"),
        ({"columns": ["mAPP"]}, "mAPP"),
        ({"columns": []}, "distinct"),
        ({"columns": "nuscenez"}, "no columns called 'nuscenez'"),
        ({"delta": "NDS"}, "not a column"),
        ({"rows": [{"label": "x", "run": "r"}, {"label": "x", "run": "q"}]}, "differ"),
        ({"rows": [{"controll": {"x": "r"}}]}, "unknown key 'controll' .*'control'"),
        ({"rows": [{"comparisons": "c"}]}, "no comparison 'c'"),
        ({"rows": [{"for": {"k": ["a"]}, "each": [{"label": "{j}", "run": "r"}], "else": 1}]}, "unknown key 'else'"),
        ({"target": "later"}, "target"),
    ],
)
def test_bad_table(own_config: Path, change: dict, message: str):
    path = own_config / "papers" / "x" / "tables.yaml"
    good = {"title": "", "caption": "", "columns": ["mAP"], "rows": [{"label": "x", "run": "r"}]}
    path.write_text(yaml.safe_dump({"tables": {"t": good}}))
    assert [(table.name, table.part) for table in load_tables().values()] == [("t", "x")]
    path.write_text(yaml.safe_dump({"tables": {"t": good | change}}))
    with pytest.raises(ConfigError, match=message):
        load_tables()


def test_a_table_is_different_at_one_scale(own_config: Path):
    path = own_config / "papers" / "x" / "tables.yaml"
    rows = [{"label": "x", "run": "r"}]
    table = {"title": "a", "caption": "", "columns": ["mAP"], "split": "tune", "rows": rows, "notes": ["own"]}
    path.write_text(yaml.safe_dump({"tables": {"t": table | {"at": {"paper": {"split": "report", "r": "q"}}}}}))
    (own_config / "scales").mkdir(exist_ok=True)
    for scale, settings in (("sim", {}), ("paper", {"notes": ["of the scale"]})):
        (own_config / "scales" / f"{scale}.yaml").write_text(yaml.safe_dump(settings))
    for scale, split, run, notes in (
        (None, "tune", "r", ("own",)),
        ("sim", "tune", "r", ("own",)),
        ("paper", "report", "q", ("own", "of the scale")),
    ):
        found = load_tables(scale)["t"]
        assert isinstance(found.rows, tuple)
        assert (found.split, found.rows[0].run, found.notes, found.title) == (split, run, notes, "a")


def test_published_tables_do_not_read_what_is_trained_on():
    """At the published scale runs learn from the scenes of the tune split."""
    rows = load_rows()
    for name, table in load_tables("paper").items():
        assert any("docs/deviations.md" in note for note in table.notes), name
        for run in {run for row in table.rows for run in pool(row.run)}:
            load_run(run, "paper", rows[run].seeds[0]).data.split(table.split)


def test_bad_figures(own_config: Path):
    path = own_config / "papers" / "x" / "figures.yaml"
    good = {"title": "", "caption": "", "kind": "dots", "panels": {"p": {"label": "r"}}, "at": {"paper": {"r": "q"}}}
    path.write_text(yaml.safe_dump({"figures": {"f": good}}))
    for scale, run in ((None, "r"), ("paper", "q")):
        figure = load_figures(scale)["f"]
        assert isinstance(figure, Dots)
        assert (figure.part, figure.panels) == ("x", (PanelSpec("p", (CurveSpec("label", run),)),))
    for change, message in (
        ({"kind": "dotz"}, r"x/figures\.yaml: figure 'f': kind: no figure is a 'dotz' .*'dots'"),
        ({"metric": "mmAP"}, "mmAP"),
        ({"titel": "t"}, "titel: unknown key .*'title'"),
    ):
        path.write_text(yaml.safe_dump({"figures": {"f": good | change}}))
        with pytest.raises(ConfigError, match=message):
            load_figures()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"statment": "s"}, r"x/claims\.yaml: comparison 'c': statment: unknown key .*'statement'"),
        ({"metrics": "mAPP"}, "mAPP"),
        ({"like": "d"}, "no comparison 'd'"),
        ({"like": "c"}, "c is like c"),
        ({"statement": "{student} wins"}, "nothing says what {student} is"),
        ({"source": ""}, "needs a source"),
        ({"table": "t"}, "no table 't'"),
        ({"test": "no_difference"}, "margin"),
    ],
)
def test_bad_comparisons(own_config: Path, monkeypatch: pytest.MonkeyPatch, change: dict, message: str):
    good = {"runs": {"arm": "r", "baseline": "q"}, "metrics": ["mAP", "NDS"], "statement": "{metric}", "source": "s"}
    bad = shutil.copytree(own_config, own_config / "bad")
    for folder, content in ((own_config, good), (bad, good | change)):
        (folder / "papers" / "x" / "claims.yaml").write_text(yaml.safe_dump({"comparisons": {"c": content}}))
    assert {name: (claim.better, claim.statement) for name, claim in load_claims().items()} == {
        "c_map": ("r", "mAP"),
        "c_nds": ("r", "NDS"),
    }
    monkeypatch.setenv("BEVKD_CONFIG", str(bad))
    with pytest.raises(ConfigError, match=message):
        load_claims()


def test_series_patterns():
    rows = {name: RowConfig(id=name, dataset="d", model="m") for name in ("curve_a_1", "curve_a_2", "a", "b")}
    assert SeriesSpec("s", ("curve_a_*", "a", "curve_a_1")).resolve(rows) == ["curve_a_1", "curve_a_2", "a"]
    with pytest.raises(ConfigError, match="curve_b"):
        SeriesSpec("s", ("curve_b_*",)).resolve(rows)


@pytest.mark.parametrize("table", [t for t in load_tables().values() if t.published], ids=lambda t: t.name)
def test_selectors_hit_one_published_number_each(table: TableConfig):
    """Every cell of a published table that we repeat is mapped exactly once."""
    hits = [
        reference.select({**table.published, **column.selector, **row.published})
        for row in (*table.rows, *table.context)
        for column in table.columns
        if column.printed_for(row) and row.published is not None
    ]
    lines = [cell.line for cell in hits]
    # Differences of two printed rows are those rows once more.
    cells = [cell for cell in reference.published(**table.published) if "_gain_over_" not in cell["metric"]]
    printed = [cell.line for cell in cells]
    # Tables that borrow some cells: both camera paths show the baseline of Table S1; teachers are of other tables, and
    # so are velocity errors of CRKD and its row from the LiDAR map.
    some = {
        "unidistill_paths": 4 * 4,
        "distillbev_main": 5 * 7 + 3 * 2,
        "distillbev_scratch": 3 * 7,
        "distillbev_cost": 1,
        "simdistill_backbones": 2 * 7,
        "crkd_main": 8 * 2 + 2 + 3,
        "crkd_ablation": 6 * 2 + 2,
    }
    if table.name in some:
        assert len(lines) == some[table.name]
        assert len(set(lines) - set(printed)) <= 3 * 2
    else:
        assert sorted(lines) == sorted(printed)


def test_selector_errors():
    with pytest.raises(ConfigError, match="unknown column 'colour'"):
        reference.select({"colour": "red"})
    with pytest.raises(ConfigError, match="0 published numbers"):
        reference.select({"paper": "UniDistill", "table": "S99"})
    with pytest.raises(ConfigError, match="4 published numbers"):
        reference.select({"paper": "UniDistill", "table": "S7", "metric": "NDS"})


def test_numbers_are_selected_by_parts_of_their_variant():
    """DistillBEV, Figure 6: the point of epoch 8, whatever else the variant says."""
    point = {"paper": "DistillBEV", "table": "Figure 6 (training curves)", "row_label": "BEVDet4D", "metric": "mAP"}
    assert reference.select(point | {"epoch": "8"}).value == 28.66
    assert reference.select(point | {"epoch": "24", "teacher": "none"}).value == 32.84
    with pytest.raises(ConfigError, match="0 published numbers"):
        reference.select(point | {"epoch": "9"})


def test_published_numbers_by_hand():
    """Read off the supplement, Tables 6 and 7."""
    s7 = {"paper": "UniDistill", "table": "S7", "row_label": "Crucial"}
    assert reference.select(s7 | {"metric": "AP", "class": "pedestrian"}).value == 82.4
    s6 = {"paper": "UniDistill", "table": "S6", "row_label": "W/O Adapt", "metric": "mAVE"}
    assert reference.select(s6 | {"variant": "path (4); column group L_Rel; only L_Rel"}).value == 84.5


def test_metric_names():
    assert metric("AP_car").field == ("mean_dist_aps", "car")
    assert not metric("mAVE").higher_is_better
    with pytest.raises(ConfigError, match="did you mean 'AP_trailer'"):
        metric("AP_trailr")


@pytest.mark.parametrize("bad", [None, float("nan"), True, "0.3"])
def test_metric_values_are_finite_numbers(bad: object):
    assert value_of({"mean_ap": 0.123}, "mAP", Path("m.json")) == pytest.approx(12.3)
    with pytest.raises(DataError, match=r"m\.json.*mean_ap"):
        value_of({"mean_ap": bad}, "mAP", Path("m.json"))
    with pytest.raises(DataError, match="lacks a field"):
        value_of({"tp_errors": {}}, "mAVE", Path("m.json"))


def test_translation_leads_by_its_score_less_those_of_the_other_errors():
    """What it grows by is what translation gains more than all other errors together."""
    scores = {"trans_err": 0.5, "scale_err": 0.7, "orient_err": 0.0, "vel_err": 0.1, "attr_err": 0.6}
    file = Path("m.json")
    before = value_of({"tp_scores": scores}, "translation_lead", file)
    assert before == pytest.approx(100 * (0.5 - 0.7 - 0.0 - 0.1 - 0.6))
    after = value_of({"tp_scores": scores | {"trans_err": 0.6, "vel_err": 0.13}}, "translation_lead", file)
    assert after - before == pytest.approx(10.0 - 3.0)
    grouped = value_of({"weather:rainy": {"tp_scores": scores}}, "translation_lead@weather:rainy", file)
    assert grouped == pytest.approx(before)
    with pytest.raises(ConfigError, match="a difference already"):
        metric("translation_lead@range:0-10 vs range:10-15")


def test_an_error_in_its_own_unit_is_printed_hundredfold():
    where = {"paper": "CRKD", "row_label": "CRKD", "table": "M test main"}
    errors = ("mATE", "mASE", "mAOE", "mAVE", "mAAE")
    printed = {key: reference.select(where | {"metric": key}).printed for key in errors}
    assert printed == pytest.approx({"mATE": 40.4, "mASE": 25.3, "mAOE": 42.5, "mAVE": 37.6, "mAAE": 11.1})
    assert reference.select(where | {"metric": "mAP"}).printed == 48.7
    for cell in reference.published():  # one that is hundredfold, or in a unit of the field
        if cell["metric"] in printed:
            assert 5 < cell.printed < 200, cell


def test_units_are_the_papers():
    """Errors are printed x100 and shares in percent: every published number of these tables lies in such a range."""
    for cell in reference.published("UniDistill"):
        if cell["metric"] in METRICS:
            assert cell["unit"].startswith(("%", "x100")), cell
            assert 5 < cell.value < 200
