from __future__ import annotations

import json
import math
import subprocess
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
import yaml
from report_synthetic import write_run

from bevkd import provenance
from bevkd.config import DataConfig, RowConfig, identity_digest, load_rows, load_run
from bevkd.data.index import FRAMES
from bevkd.data.parquet import read_parquet
from bevkd.distill import build_method
from bevkd.errors import ConfigError, DataError
from bevkd.report import make_part, records, tables
from bevkd.report.counts import DatasetRecord, count, dataset_file, read_dataset, write_dataset
from bevkd.report.parts import parts_of
from bevkd.report.runs import Runs, read_config
from bevkd.report.spec import load_claims, load_figures, load_tables

RESULTS = Path(__file__).resolve().parents[2] / "results"
ROW = RowConfig(id="a", dataset="nuscenes_sim", model="camera", seeds=(0, 2))


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    for seed, value in ((0, 0.10), (2, 0.14)):
        write_run(tmp_path / "runs", ROW, seed, value, steps=100)
    return Runs(tmp_path / "runs", "sim", {"a": ROW})


def test_a_record_by_hand(runs: Runs, tmp_path: Path):
    made = {"commit": "0123456789ab", "changed": False, "torch": "2.9", "device": "x", "precision": "32-true"}
    (runs.folder("a", 2) / "provenance.json").write_text(json.dumps(made))
    record = records.make_record(runs, "a")
    assert (record.run, record.scale, record.steps, record.source) == ("a", "sim", 100, None)
    # Ten lines of 0.1 s for data and 0.9 s of computing; 100 steps of one batch each.
    batch = runs.config("a").train.frames_per_batch
    assert [seed.seconds for seed in record.seeds] == [10.0, 10.0]
    assert record.seconds == 10.0
    assert record.frames_per_second == pytest.approx(100 * batch / 10)
    assert record.metrics["mAP"] == pytest.approx(12.0)
    assert [seed.metrics["mAP"] for seed in record.seeds] == pytest.approx([10.0, 14.0])
    assert {"mAAE", "AP_car", "AP_traffic_cone"} <= record.metrics.keys()
    assert [seed.made for seed in record.seeds] == [None, made], "what was not recorded is not known"
    assert record.weights == {}
    assert record.settings is not None
    assert len(record.settings) == 12
    steps, values = runs.curves("a", "total", records.WINDOW)
    assert [step for step, _ in record.curve] == steps.tolist()
    assert [value for _, value in record.curve] == pytest.approx(values.mean(axis=0), abs=1e-6)
    path = records.write_record(record, tmp_path)
    assert records.read_record(tmp_path, "a") == record
    assert path.read_text().count("\n") == 17, "a line per field and per seed"
    path.write_text('{"run": "a"}')
    with pytest.raises(DataError, match="not the record of a run"):
        records.read_record(tmp_path, "a")


def test_without_metrics_on_the_report_split_there_are_none(runs: Runs):
    (runs.folder("a", 2) / "metrics_val.json").unlink()
    record = records.make_record(runs, "a")
    assert record.metrics == {}
    assert [seed.metrics for seed in record.seeds] == [{}, {}]


@pytest.mark.parametrize("lines", [199, 200, 201, 1234])
def test_long_curves_are_thinned_and_keep_their_end(runs: Runs, lines: int):
    for seed in ROW.seeds:
        text = [json.dumps({"step": i, "losses": {"total": float(i)}}) for i in range(1, lines + 1)]
        (runs.folder("a", seed) / "log.jsonl").write_text("\n".join(text) + "\n")
    steps = [step for step, _ in records.make_record(runs, "a").curve]
    assert steps[-1] == lines
    assert len(set(np.diff(steps))) == 1
    assert len(steps) == (lines if lines <= records.POINTS else math.ceil(lines / math.ceil(lines / records.POINTS)))


COMMITTED = sorted((RESULTS / "records").glob("*.json"))


@pytest.fixture(scope="module")
def printed() -> dict[str, set[float]]:
    """Mean AP of single runs on the report split, as the committed tables print it."""
    out: dict[str, set[float]] = {}
    for name, spec in load_tables("sim").items():
        path = RESULTS / "tables" / f"{name}.csv"
        if spec.split == "report" and path.exists() and "mAP" in {column.key for column in spec.columns}:
            for row in tables.read(spec, path, load_rows()).rows:
                out.setdefault(row.run, set()).add(row.values["mAP"].ours)
    return out


@pytest.mark.committed_results
@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.stem)
def test_a_committed_record_fits_row_config_and_tables(path: Path, printed: dict[str, set[float]]):
    record = records.read_record(RESULTS, path.stem)
    assert (record.run, record.scale) == (path.stem, "sim")
    assert record.seed_ids == load_rows()[record.run].seeds
    assert record.settings == identity_digest(read_config(RESULTS / "configs" / f"{record.run}.yaml"))
    assert record.source or all(seed.made for seed in record.seeds), "by what it was made, or where it was read"
    for shown in printed.get(record.run, ()):
        assert np.mean([seed.metrics["mAP"] for seed in record.seeds]) == pytest.approx(shown, abs=2e-4)


@pytest.mark.committed_results
def test_committed_records_are_those_of_the_runs_on_the_page(printed: dict[str, set[float]]):
    names = {path.stem for path in COMMITTED}
    parts = parts_of(load_tables("sim"), load_figures("sim"), load_claims("sim")).values()
    assert {run for part in parts if part.target == "all" for run in part.runs(load_rows())} <= names
    assert len(names & printed.keys()) > len(names) / 2, "most of them were compared with a table"


def test_committed_counts_of_a_data_set():
    kitti = read_dataset(RESULTS, "data/index/kitti_sim/sim")
    assert kitti.splits["train"] == {"scenes": 200, "frames": 200, "labelled": 100}
    assert kitti.boxes["val"] == {"car": 348, "pedestrian": 263, "cyclist": 128}


def test_counts_of_an_index_are_kept(smoke_dataset, tmp_path: Path):
    data = DataConfig(root=str(smoke_dataset.root), version="v1.0-sim", index=str(smoke_dataset.index))
    record = count(data)
    assert set(record.splits) == {"train", "tune", "val"}
    assert all(split["labelled"] <= split["frames"] for split in record.splits.values())
    assert sum(record.conditions["weather"].values()) == sum(s["frames"] for s in record.splits.values())
    assert sum(record.conditions["lighting"].values()) == sum(record.conditions["weather"].values()) == 26
    index = read_parquet(smoke_dataset.index / "frames.parquet", FRAMES, ["split"])
    assert "conditions" in index["split"].to_pylist(), "a further split, of which records say nothing"
    write_dataset(record, tmp_path)
    assert read_dataset(tmp_path, record.index) == record
    with pytest.raises(DataError, match="'other' has no record"):
        read_dataset(tmp_path, "other")


def test_data_sets_of_different_folders_have_different_files(tmp_path: Path):
    names = ["data/index/nuscenes_sim/sim", "data/index/nuscenes_sim/smoke", "/elsewhere/nuscenes"]
    assert len({dataset_file(tmp_path, name) for name in names}) == 3
    assert dataset_file(tmp_path, names[0]).name == "nuscenes_sim-sim.json"
    write_dataset(DatasetRecord(names[2], {}, {}, {}), tmp_path)
    assert read_dataset(tmp_path, names[2]).index == names[2]


def test_every_item_belongs_to_one_part():
    tables, figures, claims = load_tables(), load_figures(), load_claims()
    parts = parts_of(tables, figures, claims)
    assert set(parts) >= {"unidistill", "label_efficiency", "label_efficiency_extended", "datasets", "tuning"}
    for kind, items in (("tables", tables), ("figures", figures), ("claims", claims)):
        held = [name for part in parts.values() for name in getattr(part, kind)]
        assert sorted(held) == sorted(name for name, item in items.items() if item.target != "preview")
    assert set(parts["datasets"].tables) == {"kitti", "waymo"}
    assert {claim.paper for claim in parts["unidistill"].claims.values()} == {"UniDistill"}
    for part in parts.values():
        items = [*part.tables.values(), *part.figures.values(), *part.claims.values()]
        assert {item.target for item in items} == {part.target}
        assert set(part.runs(load_rows())) <= set(load_rows())


# Those of the default target, and what else was made.
COMMITTED_PARTS = {
    name: part
    for name, part in parts_of(load_tables("sim"), load_figures("sim"), load_claims("sim")).items()
    if part.target == "all" or (RESULTS / "parts" / f"{name}.json").exists()
}


@pytest.mark.committed_results
@pytest.mark.parametrize("name", COMMITTED_PARTS)
def test_a_committed_part_names_the_commit_of_its_own_files(name: str):
    """Where no provenance was recorded: the newest one that stored tables or figures, before results came in parts."""
    made = json.loads((RESULTS / "parts" / f"{name}.json").read_text())
    if "source" not in made:
        return
    part = COMMITTED_PARTS[name]
    files = [f"results/tables/{table}.{end}" for table in part.tables for end in ("csv", "md", "tex")]
    files += [f"results/figures/{figure}.{end}" for figure in part.figures for end in ("png", "pdf")]
    try:
        commit, date = git("log", "-1", "--format=%H %cI", "374a746f3bea", "--", *files).split()
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a full clone")
    assert commit.startswith(made["commit"])
    assert datetime.fromisoformat(made["date"]) == datetime.fromisoformat(date)


def git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=RESULTS.parent, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_an_unknown_part_names_the_nearest(tmp_path: Path):
    with pytest.raises(ConfigError, match="did you mean 'unidistill'"):
        make_part("unidistil", "sim", tmp_path)


def test_provenance_names_the_commit_of_this_code(monkeypatch: pytest.MonkeyPatch):
    found = provenance.provenance()
    assert found["cores"] >= 1
    assert found["processor"]
    assert found["torch"][0].isdigit()
    assert found["commit"] is None or len(found["commit"]) == 12
    provenance.commit.cache_clear()
    monkeypatch.setattr(provenance, "_ROOT", Path("/"))
    try:
        assert provenance.commit() == (None, None), "installed elsewhere, nothing is known"
    finally:
        provenance.commit.cache_clear()


def test_an_old_layout_is_read_in_one_place(runs: Runs):
    """Page and tables read resolved configs through the same function, which names the file of a bad one."""
    file = runs.config_file("a")
    plain = yaml.safe_load(file.read_text())
    file.write_text(yaml.safe_dump(plain | {"colour": 1}))
    with pytest.raises(DataError, match=r"colour.*config\.yaml"):
        runs.config("a")


def test_weights_are_known_without_the_networks() -> None:
    """Of every method in the project's rows, whatever maps it reads."""
    found = {}
    for run, row in load_rows().items():
        if row.method is None or row.method.kind in found:
            continue
        models = [load_run(name, "sim", 0).model for name in (run, row.teacher or run)]
        own, other = (records._one_channel_of_everything(one.sensors, one.maps) for one in models)
        found[row.method.kind] = build_method(row.method, own, other).weights()
    assert found["crkd"]["msfd_camera"] == found["crkd"]["msfd_fused"] == 10.0
    assert {"unidistill", "dense", "combine", "crkd"} <= set(found)
    assert all(weights for weights in found.values())
