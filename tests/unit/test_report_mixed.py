"""Tables with columns from several kinds of files, published rows without a run, and notes on published cells."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from report_synthetic import summary, write_run

from bevkd.cli import main
from bevkd.config import RowConfig, config_dir, load_rows
from bevkd.errors import ConfigError, DataError
from bevkd.report import frames, ledger, reference, render, tables
from bevkd.report.fill import fill
from bevkd.report.metrics import metric, value_of
from bevkd.report.runs import Runs, cost_file, profile_file
from bevkd.report.spec import ColumnSpec, ContextSpec, RowSpec, TableConfig, load_claims, load_tables, reads

RESULTS = Path(__file__).resolve().parents[2] / "results"
ROWS = {name: RowConfig(id=name, dataset="nuscenes_sim", model="camera", seeds=(0, 1)) for name in ("a", "b")}
COLUMNS = tuple(map(ColumnSpec, ("params", "mAP", "mAP@range:0-20", "step_time_live", "macs")))
ROW = RowSpec("x", "a", against="b")
SPEC = TableConfig("t", "T", "c", COLUMNS, (ROW,), delta="mAP")


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    root = tmp_path / "results/runs"
    for name, values in (("a", (0.10, 0.12)), ("b", (0.09, 0.09))):
        for seed, value in enumerate(values):
            folder = write_run(root, ROWS[name], seed, value)
            near = summary(2 * value, np.random.default_rng(0))
            (folder / "breakdown_val.json").write_text(json.dumps({"range:0-20": near}))
        repeats = [{"live": {"step_s": seconds}} for seconds in (0.1, 0.2, 0.3)]
        cost_file(name, "sim", root).write_text(json.dumps({"repeats": repeats}))
    # Rows of one model may have other networks: what a row sets counts.
    for name, params in (("a", 1_234_567), ("b", 1_500_000)):
        profile = profile_file(name, "sim", root)
        profile.parent.mkdir(exist_ok=True)
        profile.write_text(json.dumps({"params": params, "macs_dense2d": 2_500_000_000, "latency_ms": 3.25}))
    return Runs(root, "sim", ROWS)


def test_a_row_mixes_metrics_their_breakdown_size_and_cost(runs: Runs, tmp_path: Path):
    table = fill(SPEC, runs, tmp_path)
    (row,) = table.rows
    found = {key: (value.ours, value.std) for key, value in row.values.items()}
    assert found["params"] == (pytest.approx(1.234567), pytest.approx(math.nan, nan_ok=True))
    assert found["macs"][0] == pytest.approx(2.5)
    assert found["mAP"] == pytest.approx((11.0, 2**0.5))
    assert found["mAP@range:0-20"] == pytest.approx((22.0, 2 * 2**0.5))
    assert found["step_time_live"] == pytest.approx((0.2, 0.1))
    assert (row.n, row.seeds) == (2, "0,1"), "n counts seeds, however often the benchmark was repeated"
    assert row.delta is not None
    assert row.delta.mean == pytest.approx(2.0)
    csv, markdown, _ = (path.read_text() for path in render.write(table, tmp_path / "tables"))
    assert csv.splitlines()[1].startswith(",,x,a,,1.2346,,,11.0000,1.4142,,22.0000,2.8284,,0.2000,0.1000,,2.5000,,")
    assert "| x | +2.0 [-10.7, +14.7] | 1.23 | 11.0 ± 1.4 | 22.0 ± 2.8 | 0.200 ± 0.100 | 2.50 | 2 |" in markdown
    assert "mAP, range 0-20 ↑ ours" in markdown
    assert "over the repeats of a benchmark, of the first seed. Size, multiply-accumulates" in markdown
    assert frames.to_csv(tables.to_frame(tables.read(SPEC, tmp_path / "tables/t.csv", ROWS))) == csv


def test_each_row_shows_its_own_network(runs: Runs, tmp_path: Path):
    rows = (ROW, RowSpec("y", "b"), RowSpec("z", ("b", "a")))
    table = fill(TableConfig("t", "T", "c", (ColumnSpec("params"),), rows), runs, tmp_path)
    assert [row.values["params"].ours for row in table.rows] == [pytest.approx(n) for n in (1.234567, 1.5, 1.5)]


def test_what_a_mixed_table_reads(runs: Runs):
    both, first = [("a", 0), ("a", 1), ("b", 0), ("b", 1)], [("a", 0), ("b", 0)]
    assert reads(SPEC, ROWS) == {"profile": first, "metrics": both, "breakdown": both, "cost": first}
    costs = TableConfig("t", "T", "c", (ColumnSpec("step_time_live"), ColumnSpec("params")), (ROW,))
    assert costs.needs(ROWS) == first, "no column comes from seeds"


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("profiles/a.json", r"run 'a' has no profile at scale 'sim'"),
        ("costs/a.json", r"run 'a' has no costs at scale 'sim'"),
        ("runs/sim/a/seed1/breakdown_val.json", r"run 'a' has no breakdown for seed 1"),
    ],
)
def test_a_missing_source_is_named(runs: Runs, tmp_path: Path, file: str, message: str):
    (runs.root.parent / file).unlink()
    with pytest.raises(DataError, match=message):
        fill(SPEC, runs, tmp_path)


def test_a_profile_is_what_tables_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file = profile_file("lidar_base", "smoke", tmp_path / "runs")
    assert main(["profile", "--run", "lidar_base", "--scale", "smoke", "--out", str(file)]) == 0
    content = json.loads(file.read_text())
    assert json.loads(capsys.readouterr().out) == content
    assert value_of(content, "params", file) == pytest.approx(content["params"] / 1e6)
    assert value_of(content, "macs", file) == pytest.approx(content["macs_dense2d"] / 1e9)
    assert value_of(content, "latency", file) == content["latency_ms"]


def test_metrics_of_groups():
    near = metric("NDS@lighting:night")
    assert (near.file, near.field, near.unit) == ("breakdown", ("lighting:night", "nd_score"), "%")
    assert value_of({"lighting:night": {"nd_score": 0.25}}, "NDS@lighting:night", Path("b.json")) == 25.0
    assert ColumnSpec("NDS@lighting:night").selector == {"metric": "NDS", "class": "lighting:night"}
    with pytest.raises(DataError, match=r"lacks a field.*lighting:day\.nd_score"):
        value_of({}, "NDS@lighting:day", Path("b.json"))
    for wrong in ("params@near", "mAP@"):
        with pytest.raises(ConfigError, match="given for groups"):
            metric(wrong)
    with pytest.raises(ConfigError, match="did you mean 'NDS'"):
        metric("NDSS@near")


def test_groups_of_published_tables_are_found():
    """CRKD, Table S1: metrics per range of distance."""
    column = ColumnSpec("NDS@range:0-20")
    cell = reference.select({"paper": "CRKD", "table": "S1", "row_label": "Teacher", **column.selector})
    assert cell.value == 76.71


def test_paired_differences_of_a_group(runs: Runs, tmp_path: Path):
    """A table by range, with the numbers of annotations and a group that has none."""
    for name in ("a", "b"):
        for seed in (0, 1):
            file = runs.folder(name, seed) / "breakdown_val.json"
            near = json.loads(file.read_text())["range:0-20"] | {"mean_ap_present": 0.5, "frames": 40, "boxes": 7}
            far = near | {"mean_ap": 0.0, "mean_ap_present": None, "boxes": 0}
            file.write_text(json.dumps({"range:0-20": near, "range:30-50": far}))
    keys = [f"{key}@range:{bins}" for bins in ("0-20", "30-50") for key in ("mAP", "mAP_present", "boxes")]
    spec = TableConfig("t", "T", "c", tuple(map(ColumnSpec, keys)), (ROW,), delta="mAP@range:0-20")
    assert reads(spec, ROWS) == {"breakdown": [(name, seed) for name in "ab" for seed in (0, 1)]}
    table = fill(spec, runs, tmp_path)
    (row,) = table.rows
    assert row.delta is not None
    assert (row.delta.mean, row.n) == (pytest.approx(4.0), 2)
    assert row.values["mAP@range:0-20"].ours == pytest.approx(22.0)
    assert math.isnan(row.values["mAP_present@range:30-50"].ours)
    (grid,) = render.grids(table)
    assert "7 ± 0" in grid.rows[0]
    assert "mAP present, range 30-50" in " ".join(grid.head)
    _, markdown, _ = (path.read_text() for path in render.write(table, tmp_path / "tables"))
    assert "+4.0 [" in markdown
    assert "Units: mAP %, mAP present %, boxes number." in markdown


@pytest.mark.parametrize("scale", ["smoke", "sim", "paper"])
def test_tables_of_groups_say_what_they_rest_on(scale: str):
    """Frames, annotations, and the mean over the classes that there are, beside that of the devkit."""
    groups = {}
    for name, spec in load_tables(scale).items():
        keys = {column.key for column in spec.columns}
        shown = {key.partition("@")[2] for key in keys if metric(key).file == "breakdown"}
        assert {f"{key}@{group}" for key in ("mAP_present", "frames", "boxes") for group in shown} <= keys, name
        groups |= {name: shown} if shown else {}
    assert list(groups) == ["crkd_s1", "crkd_s2"]


def test_an_older_table_of_groups_is_read_without_what_they_rest_on(runs: Runs, tmp_path: Path):
    for name, seed in ((name, seed) for name in ("a", "b") for seed in (0, 1)):
        file = runs.folder(name, seed) / "breakdown_val.json"
        near = json.loads(file.read_text())["range:0-20"] | {"mean_ap_present": 0.5, "frames": 40, "boxes": 7}
        file.write_text(json.dumps({"range:0-20": near}))
    keys = ("mAP@range:0-20", "mAP_present@range:0-20", "boxes@range:0-20", "mAP")
    spec = TableConfig("t", "T", "c", tuple(map(ColumnSpec, keys)), (ROW,), delta="mAP")
    path = render.write(fill(spec, runs, tmp_path), tmp_path / "tables")[0]
    assert tuple(tables.read(spec, path, ROWS).rows[0].values) == keys
    later = [name for key in keys[1:3] for name in (f"{key}_paper", f"{key}_ours", f"{key}_std")]
    whole = pd.read_csv(path, dtype=str, keep_default_na=False)
    whole.drop(columns=later).to_csv(path, index=False)
    older = tables.read(spec, path, ROWS)
    assert tuple(older.rows[0].values) == ("mAP@range:0-20", "mAP")
    assert "boxes" not in render.to_markdown(older)
    whole.drop(columns=[name for name in whole.columns if name.startswith("mAP@")]).to_csv(path, index=False)
    with pytest.raises(frames.ColumnsError):
        tables.read(spec, path, ROWS)


def test_a_scale_with_other_groups(config_copy: Path):
    """Ours of a nearer group stands beside the published number of the group that it stands for."""
    folder = config_copy / "papers" / "mine"
    groups = {"mAP@range:0-20": "mAP@range:0-10"}
    rows = {name: {"dataset": "nuscenes_sim", "model": "camera"} for name in ("mine_a", "mine_b")}
    table = {
        "title": "T",
        "caption": "c",
        "columns": ["mAP@range:0-20", "boxes@range:0-20"],
        "printed": ["mAP@range:0-20"],
        "delta": "mAP@range:0-20",
        "published": {"paper": "CRKD", "table": "S1"},
        "at": {"sim": groups | {"boxes@range:0-20": "boxes@range:0-10"}},
        "rows": [
            {"label": "CRKD", "run": "mine_a", "against": "mine_b", "published": {"row_label": "CRKD"}},
            {"label": "Student", "run": "mine_b", "published": {"row_label": "Student"}},
        ],
    }
    claim = {
        "runs": {"arm": "mine_a", "baseline": "mine_b"},
        "control": "not_due",
        "table": "mine_s1",
        "metrics": {"_near": "mAP@range:0-20"},
        "statement": "better in {metric}",
        "at": {"sim": groups},
    }
    for name, content in (
        ("runs", {"runs": rows}),
        ("tables", {"tables": {"mine_s1": table}}),
        ("claims", {"comparisons": {"mine": claim}}),
    ):
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content))
    for scale, bins in (("sim", "0-10"), ("paper", "0-20")):
        found = load_tables(scale)["mine_s1"]
        assert [column.key for column in found.columns] == [f"mAP@range:{bins}", f"boxes@range:{bins}"]
        assert found.delta == f"mAP@range:{bins}"
        assert isinstance(found.rows, tuple)
        values, _ = tables.published(found, found.rows[0])
        assert values[f"mAP@range:{bins}"] == 61.59
        said = load_claims(scale)["mine_near"]
        assert (said.metric, said.statement) == (f"mAP@range:{bins}", f"better in mAP, range {bins}")
        assert said.published is not None
        assert [cell["class"] for cell in said.published] == ["range:0-20"] * 2


@pytest.fixture
def misprinted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Published numbers of which one carries a note."""
    folder = tmp_path / "config"
    shutil.copytree(config_dir() / "reference", folder / "reference")
    path = folder / "reference" / "unidistill.csv"
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    odd = (frame["table"] == "S7") & (frame["row_label"] == "Crucial") & (frame["class"] == "car")
    assert odd.sum() == 1
    frame.assign(note=odd.map({True: "Printed in bold; 5 % is meant.", False: ""})).to_csv(path, index=False)
    monkeypatch.setenv("BEVKD_CONFIG", str(folder))


WITH_CONTEXT = TableConfig(
    "t",
    "T",
    "c",
    (ColumnSpec("AP_car"), ColumnSpec("NDS")),
    (RowSpec("ours", "a", published={"row_label": "Gaussian"}),),
    published={"paper": "UniDistill", "table": "S7"},
    context=(
        ContextSpec("Crucial", {"row_label": "Crucial"}),
        ContextSpec("Complete", {"row_label": "Complete"}, unprinted=("NDS",)),
    ),
)


@pytest.mark.usefixtures("misprinted")
def test_context_stands_below_and_a_misprint_carries_a_note(runs: Runs, tmp_path: Path):
    table = fill(WITH_CONTEXT, runs, tmp_path)
    assert [row.label for row in table.rows] == ["ours"]
    ours, context = render.grids(table)
    assert len(ours.rows) == 1
    assert context.title == "Published, without a run of ours"
    assert context.head == ("", "AP car ↑ paper", "NDS ↑ paper")
    nds = reference.select({"paper": "UniDistill", "table": "S7", "row_label": "Crucial", "metric": "NDS"}).value
    assert context.rows[0] == ("Crucial", "82.9¹", f"{nds:.1f}")
    assert context.rows[1][2] == "—"
    csv, markdown, latex = (path.read_text() for path in render.write(table, tmp_path / "tables"))
    assert csv.splitlines()[2].startswith(f",context,Crucial,,82.9000,,,{nds:.4f},,,0,,")
    assert "- ¹ Printed in bold; 5 % is meant." in markdown
    assert markdown.index("| ours |") < markdown.index("**Published, without a run of ours**")
    assert r"82.9\textsuperscript{1}" in latex
    assert r"\textsuperscript{1} Printed in bold; 5 \% is meant." in latex
    again = tables.read(WITH_CONTEXT, tmp_path / "tables/t.csv", ROWS)
    assert frames.to_csv(tables.to_frame(again)) == csv
    assert render.to_markdown(again) == markdown


def test_context_is_checked():
    with pytest.raises(ValueError, match="unprinted names a column"):
        TableConfig("t", "T", "c", COLUMNS, (ROW,), context=(ContextSpec("x", {}, unprinted=("NDS",)),))
    with pytest.raises(ValueError, match="context must differ"):
        TableConfig("t", "T", "c", COLUMNS, (ROW,), context=(ContextSpec("x", {}), ContextSpec("x", {})))


@pytest.mark.parametrize("name", [path.stem for path in sorted((RESULTS / "tables").glob("*.csv"))])
def test_committed_tables_are_written_as_they_are_read(name: str):
    path = RESULTS / "tables" / f"{name}.csv"
    assert frames.to_csv(tables.to_frame(tables.read(load_tables("sim")[name], path, load_rows()))) == path.read_text()


@pytest.mark.parametrize("path", [*sorted(RESULTS.glob("claims*.csv")), *sorted((RESULTS / "ledger").glob("*.csv"))])
def test_committed_ledgers_are_written_as_they_are_read(path: Path):
    assert frames.to_csv(ledger.to_frame(ledger.read(path))) == path.read_text()


def test_bad_csv_names_file_and_column(tmp_path: Path):
    path = tmp_path / "t.csv"
    spec = load_tables("sim")["kitti"]
    text = (RESULTS / "tables" / "kitti.csv").read_text()
    for bad, message in (
        (text.replace("_paper", "_papers", 1), "columns are not those of table 'kitti'"),
        (text.replace(spec.columns[0].key, "mAP", 1), "columns are not those"),
        ("", "cannot be read as CSV"),
    ):
        path.write_text(bad)
        with pytest.raises(DataError, match=message):
            tables.read(spec, path, ROWS)
    frame = pd.read_csv(RESULTS / "tables" / "kitti.csv", dtype=str, keep_default_na=False)
    name = f"{spec.columns[0].key}_ours"
    frame.assign(**{name: "twelve"}).to_csv(path, index=False)
    with pytest.raises(DataError, match=rf"not a number.*twelve.*field={name}"):
        tables.read(spec, path, ROWS)


def test_context_in_short_form(config_copy: Path):
    path = config_copy / "papers" / "unidistill" / "tables.yaml"
    plain = yaml.safe_load(path.read_text())
    other = {"label": "Larger", "published": {"row_label": "Gaussian"}, "unprinted": ["NDS"]}
    plain["tables"]["unidistill_s7"]["context"] = ["Crucial", other]
    path.write_text(yaml.safe_dump(plain, sort_keys=False))
    crucial, larger = load_tables("sim")["unidistill_s7"].context
    assert (crucial.label, crucial.published) == ("Crucial", {"row_label": "Crucial"})
    assert (larger.label, larger.published, larger.unprinted) == ("Larger", {"row_label": "Gaussian"}, ("NDS",))
