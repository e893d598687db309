from __future__ import annotations

import csv
import json
import math
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from report_synthetic import write_run, write_runs

from bevkd.config import RowConfig, load_rows
from bevkd.errors import ConfigError, DataError
from bevkd.report import frames, make_table, reference, render, tables
from bevkd.report.fill import fill
from bevkd.report.render import escape
from bevkd.report.runs import Runs
from bevkd.report.spec import ColumnSpec, RowSpec, TableConfig, load_tables, pool

ROWS = load_rows()


def cells(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every run that the tables of target `all` need; not to be changed."""
    rows = load_rows()
    needs = [need for t in load_tables().values() if t.target == "all" for need in t.needs(rows)]
    root = tmp_path_factory.mktemp("report") / "results/runs"
    write_runs(root, rows, dict.fromkeys(needs))
    return root


@pytest.fixture
def own_runs(tmp_path: Path, runs: Path, request: pytest.FixtureRequest) -> Path:
    """A copy of the runs of one table."""
    for run, _ in load_tables()[request.param].needs(load_rows()):
        shutil.copytree(runs / "sim" / run, tmp_path / "results/runs/sim" / run, dirs_exist_ok=True)
    return tmp_path / "results/runs"


@pytest.mark.parametrize("name", [t.name for t in load_tables().values() if t.target == "all"])
def test_table_files(runs: Path, name: str):
    paths = make_table(name, "sim", runs)
    assert [p.name for p in paths] == [f"{name}.csv", f"{name}.md", f"{name}.tex"]
    assert paths[0].parent == runs.parent / "tables"
    spec, lines = load_tables("sim")[name], cells(paths[0])
    assert len(lines) == len(spec.rows) + len(spec.context)
    for line in lines[: len(spec.rows)]:
        runs_of = line["run"].split()
        n = 3 * len(runs_of) if spec.artefacts == ("cost",) else sum(len(ROWS[run].seeds) for run in runs_of)
        assert int(line["n"]) == n
        for column in spec.columns:
            assert line[f"{column.key}_ours"] or ("increase" in column.key and not ROWS[runs_of[0]].teacher)
            spread = n > 1 and line[f"{column.key}_ours"] != ""
            # The same for every seed: of the data, of the grid, of a map beside itself.
            counts = column.key.partition("@")[0] in ("frames", "boxes") or column.key.startswith("attention_")
            assert (float(line[f"{column.key}_std"]) > 0 or counts) if spread else line[f"{column.key}_std"] == ""
        assert (runs.parent / line["config"]).read_text().startswith("run:")
    markdown = paths[1].read_text()
    for link in re.findall(r"\]\(([^)]+)\)", markdown):
        assert (paths[1].parent / link).is_file()
    again = tables.read(spec, paths[0], ROWS)
    assert frames.to_csv(tables.to_frame(again)) == paths[0].read_text()


@pytest.mark.parametrize("name", ["unidistill_s1", "unidistill_s6", "unidistill_s7"])
def test_every_published_cell_is_in_the_csv_once(runs: Path, name: str):
    spec = load_tables()[name]
    lines = cells(make_table(name, "sim", runs)[0])
    shown = [float(v) for line in lines for k, v in line.items() if k.endswith("_paper") and v]
    printed = [cell.value for cell in reference.published(**spec.published)]
    assert sorted(shown) == sorted(printed)


def test_mean_and_std_by_hand(tmp_path: Path):
    rows = {"a": RowConfig(id="a", dataset="d", model="camera", seeds=(0, 1, 2))}
    for seed, value in enumerate((0.10, 0.12, 0.17)):
        write_run(tmp_path / "runs", rows["a"], seed, value)
    spec = TableConfig("t", "T", "c", (ColumnSpec("mAP"), ColumnSpec("NDS")), (RowSpec("x", "a"),))
    table = fill(spec, Runs(tmp_path / "runs", "sim", rows), tmp_path)
    value = table.rows[0].values["mAP"]
    assert value.ours == pytest.approx(13.0)
    assert value.std == pytest.approx(np.std([10, 12, 17], ddof=1))
    assert math.isnan(value.paper)


def test_one_seed_has_no_std(tmp_path: Path):
    rows = {"a": RowConfig(id="a", dataset="d", model="camera")}
    write_run(tmp_path / "runs", rows["a"], 0, 0.1)
    spec = TableConfig("t", "T", "c", (ColumnSpec("mAP"),), (RowSpec("x", "a", against="a"),), delta="mAP")
    table = fill(spec, Runs(tmp_path / "runs", "sim", rows), tmp_path)
    (path, markdown, _) = render.write(table, tmp_path)
    assert cells(path)[0]["mAP_std"] == ""
    assert cells(path)[0]["mAP_delta"] == "0.0000"
    assert cells(path)[0]["mAP_delta_low"] == ""
    assert "nan" not in markdown.read_text().lower()


@pytest.mark.parametrize("own_runs", ["unidistill_s6"], indirect=True)
def test_missing_run_names_run_and_file_and_writes_nothing(own_runs: Path):
    runs = own_runs
    (runs / "sim/s6_feature/seed2/metrics_val.json").unlink()
    with pytest.raises(DataError, match=r"run 's6_feature' has no metrics for seed 2.*s6_feature.seed2.metrics_val"):
        make_table("unidistill_s6", "sim", runs)
    assert not (runs.parent / "tables").exists()


@pytest.mark.parametrize("own_runs", ["unidistill_s7"], indirect=True)
def test_untrained_run(own_runs: Path):
    runs = own_runs
    for path in (runs / "sim/s7_gaussian").glob("*/config.yaml"):
        path.unlink()
    with pytest.raises(DataError, match="run 's7_gaussian' has not been trained"):
        make_table("unidistill_s7", "sim", runs)


def test_unknown_table(runs: Path):
    with pytest.raises(ConfigError, match="did you mean 'unidistill_s6'"):
        make_table("unidistill_6", "sim", runs)


def test_tuning_table_reads_the_tune_split_and_names_what_is_missing(tmp_path: Path):
    spec, known = load_tables()["baseline_tuning"], load_rows()
    rows = {name: replace(known[name], seeds=(0,)) for row in spec.rows for name in pool(row.run)}
    runs = tmp_path / "runs"
    with pytest.raises(DataError, match="none of its runs"):
        make_table("baseline_tuning", "sim", runs, tmp_path, rows)
    for name in ("camera_base", "tune_camera_heatmap2"):
        (write_run(runs, rows[name], 0, 0.2) / "metrics_val.json").unlink()
    path, markdown, _ = make_table("baseline_tuning", "sim", runs, tmp_path, rows)
    shown = [("camera", "as it is"), ("camera", "heat-map weight 2")]
    assert [(line["group"], line["row"]) for line in cells(path)] == shown
    missing = [row.run for row in spec.rows if (row.group, row.label) not in shown]
    assert f"Not run: {', '.join(map(str, missing))}." in markdown.read_text()
    assert "tune split" in markdown.read_text()
    again = tables.read(spec, path, rows)
    assert render.to_markdown(again) == markdown.read_text(), "also when read, it names what is missing"


def test_a_table_of_another_split_reads_its_metrics_and_groups(tmp_path: Path):
    rows = {"a": RowConfig(id="a", dataset="d", model="camera", seeds=(0, 1))}
    for seed in (0, 1):
        folder = write_run(tmp_path / "runs", rows["a"], seed, 0.3)
        content = json.loads((folder / "metrics_val.json").read_text())
        content["mean_ap"] = 0.1 + 0.02 * seed
        (folder / "metrics_conditions.json").write_text(json.dumps(content))
        night = {"lighting:night": {**content, "mean_ap": 0.05, "frames": 64, "boxes": 9, "mean_ap_present": 0.05}}
        (folder / "breakdown_conditions.json").write_text(json.dumps(night))
    spec = TableConfig(
        name="own",
        title="Conditions",
        caption="By light.",
        split="conditions",
        columns=(ColumnSpec("mAP"), ColumnSpec("mAP@lighting:night"), ColumnSpec("frames@lighting:night")),
        rows=(RowSpec(label="camera", run="a"),),
    )
    runs = Runs(tmp_path / "runs", "sim", rows)
    table = fill(spec, runs, tmp_path)
    ours = [table.rows[0].values[column.key].ours for column in spec.columns]
    assert ours == pytest.approx([11.0, 5.0, 64.0])
    assert "Ours: conditions split." in render.to_markdown(table)
    (runs.folder("a", 1) / "metrics_conditions.json").unlink()
    with pytest.raises(DataError, match="metrics_conditions"):
        fill(spec, runs, tmp_path)


@pytest.mark.parametrize("split", ["", "../val", "val+", "a b"])
def test_a_table_is_of_what_may_be_a_split(split: str):
    rows = (RowSpec(label="camera", run="a"),)
    with pytest.raises(ValueError, match="split"):
        TableConfig(name="own", title="", caption="", split=split, columns=(ColumnSpec("mAP"),), rows=rows)


def test_pooled_rows_count_every_pair(tmp_path: Path):
    rows = {name: RowConfig(id=name, dataset="d", model="camera", seeds=(0, 1)) for name in ("a", "a_s1", "b", "b_s1")}
    for i, r in enumerate(rows.values()):
        for seed in r.seeds:
            write_run(tmp_path / "runs", r, seed, 0.1 + 0.01 * i + 0.001 * seed)
    row = RowSpec("x", ("b", "b_s1"), against=("a", "a_s1"))
    spec = TableConfig("t", "T", "c", (ColumnSpec("mAP"),), (row,), delta="mAP")
    found = fill(spec, Runs(tmp_path / "runs", "sim", rows), tmp_path).rows[0]
    assert found.n == 4
    assert found.delta is not None
    assert (found.delta.mean, found.delta.n) == (pytest.approx(2.0), 4)


def test_latex_is_escaped_and_balanced(runs: Path):
    text = make_table("unidistill_s6", "sim", runs)[2].read_text()
    body = re.sub(r"^%.*$|%$|\\label\{.*\}", "", text, flags=re.M)  # comments, also the one that ends a line
    assert not re.search(r"(?<!\\)[%_#]", body)
    assert body.count("{") == body.count("}")
    for begin in re.findall(r"\\begin\{(\w+)\}", body):
        assert f"\\end{{{begin}}}" in body
    assert escape("a_b & 50 % ± \\x") == r"a\_b \& 50 \% $\pm$ \textbackslash{}x"
