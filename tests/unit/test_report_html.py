from __future__ import annotations

import base64
import io
import json
import re
import shutil
from datetime import datetime
from html.parser import HTMLParser
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from PIL import Image
from report_synthetic import write_runs

from bevkd.config import DataConfig, first_seeds, load_rows, to_plain
from bevkd.errors import DataError
from bevkd.report import make_figure, make_part, make_report, make_table
from bevkd.report.parts import parts_of
from bevkd.report.spec import load_claims, load_figures, load_tables

ROWS = load_rows()
ALL_PARTS = parts_of(load_tables(), load_figures(), load_claims())
PARTS = [name for name, part in ALL_PARTS.items() if part.target == "all"]


class Page(HTMLParser):
    """Links, sources, ids and tags of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.sources: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.ids += [given["id"]] if given.get("id") else []
        self.links += [given["href"]] if given.get("href") else []
        self.sources += [given["src"]] if given.get("src") else []
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def read_from(dataset, runs: Path) -> None:
    """Say in the resolved configs that the runs read this data set."""
    data = DataConfig(root=str(dataset.root), version="v1.0-sim", index=str(dataset.index))
    for path in runs.glob("sim/*/seed*/config.yaml"):
        config = yaml.load(path.read_text(), yaml.CSafeLoader)
        config["data"] = to_plain(data) | {"kind": config["data"]["kind"]}
        path.write_text(yaml.safe_dump(config))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, smoke_dataset) -> Path:
    """A results folder with everything of target `all`; detectors' pictures are stand-ins."""
    runs = tmp_path_factory.mktemp("page") / "results/runs"
    specs = [*load_tables().values(), *load_figures().values(), *load_claims().values()]
    items = [item for item in specs if item.target == "all"]
    needs = dict.fromkeys(need for item in items for need in item.needs(ROWS))
    teachers = [(row.teacher, row.teacher_seed) for row in (ROWS[run] for run, _ in needs) if row.teacher]
    write_runs(runs, ROWS, needs | dict.fromkeys(teachers))
    read_from(smoke_dataset, runs)
    results = runs.parent
    for table in load_tables().values():
        if table.target == "all":
            make_table(table.name, "sim", runs)
    for figure in load_figures().values():
        if figure.target != "all":
            continue
        if figure.artefacts == ("model",):
            (results / "figures").mkdir(exist_ok=True)
            Image.new("RGB", (8, 8)).save(results / "figures" / f"{figure.name}.png")
        else:
            make_figure(figure.name, "sim", runs)
    for name in PARTS:
        make_part(name, "sim", runs)
    make_report("sim", results)
    return results


@pytest.fixture
def kept(made: Path, tmp_path: Path) -> Path:
    """What git keeps of the results: no runs, and no index is where the configs say."""
    shutil.copytree(made, tmp_path / "kept", ignore=shutil.ignore_patterns("runs", "costs", "responses"))
    for path in (tmp_path / "kept" / "configs").glob("*.yaml"):
        path.write_text(re.sub("  root: .*", "  root: nowhere", path.read_text()))
    return tmp_path / "kept"


def test_page_is_self_contained_and_whole(made: Path):
    text = (made / "report.html").read_text()
    page = Page(text)
    assert page.open == []
    assert all(link.startswith("#") for link in page.links)
    assert {link[1:] for link in page.links} <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))
    assert len(page.sources) == len([f for f in load_figures().values() if f.target == "all"])
    for source in page.sources:
        kind, content = source.split(",", 1)
        assert kind == "data:image/png;base64"
        Image.open(io.BytesIO(base64.b64decode(content))).verify()
    assert "url(" not in text
    assert not re.search(r">\s*[+-]?nan\b", text)


def test_page_shows_tables_claims_switches_and_data(made: Path, smoke_dataset):
    text = (made / "report.html").read_text()
    for table in load_tables().values():
        assert (f'id="table-{table.name}"' in text) == (table.target == "all")
    for claim in load_claims().values():
        assert (f'id="claim-{claim.id}"' in text) == (claim.target == "all")
    assert "82.4" in text  # published: AP of pedestrians with nine crucial points
    assert "legacy_transpose" in text
    assert "s7_complete: complete" in text, "a run that differs from the usual option is named"
    assert "feature 10, relation 5, response_cls 1, response_reg 1" in text, "the weights of path (3)"
    assert "<td>train</td>" in text
    assert (
        'id="config-le_l_to_c"' in text
    )  # A version is a name of nuScenes only; KITTI and Waymo were headed by its default.
    assert set(re.findall(r"<h3>Data set <code>(.*?)</code>", text)) == {str(smoke_dataset.index)}


def test_metrics_and_plots_for_dvc(made: Path):
    metrics = json.loads((made / "metrics.json").read_text())
    ledger = (made / "claims.csv").read_text()
    assert sum(metrics["claims"].values()) == len([c for c in load_claims().values() if c.target == "all"])
    assert metrics["claims"].get("reproduced", 0) == ledger.count(",reproduced,")
    assert 5 < metrics["runs"]["camera_base"]["mAP"] < 20
    seeds = (made / "plots/seeds.csv").read_text().splitlines()
    assert seeds[0].startswith("run,seed,mAP,NDS")
    assert sum(line.startswith("camera_base,") for line in seeds) == 3
    assert (made / "plots/training.csv").read_text().startswith("run,step,total\n")


def test_extended_results_are_shown_where_they_are(made: Path, tmp_path: Path, smoke_dataset):
    results = tmp_path / "results"
    shutil.copytree(made, results)
    runs, part = results / "runs", ALL_PARTS["label_efficiency_extended"]
    items = [*part.tables.values(), *part.claims.values()]
    needs = dict.fromkeys(need for item in items for need in item.needs(ROWS))
    write_runs(runs, ROWS, [need for need in needs if not (runs / "sim" / need[0]).exists()])
    read_from(smoke_dataset, runs)
    make_table("label_efficiency_extended", "sim", runs)
    make_part(part.name, "sim", runs)
    make_report("sim", results)
    text = (results / "report.html").read_text()
    assert 'id="table-label_efficiency_extended"' in text
    assert 'id="table-upper_bounds"' not in text, "a table that was not made is not missed"
    assert part.claims
    assert all(f'id="claim-{name}"' in text for name in part.claims)
    joined = (results / "claims_extended.csv").read_text()
    assert joined == (results / "ledger" / "label_efficiency_extended.csv").read_text()
    assert (results / "claims.csv").read_text() == (made / "claims.csv").read_text()


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("figures/unidistill_s2.png", "figure 'unidistill_s2' has not been made"),
        ("tables/unidistill_s6.csv", "table 'unidistill_s6' has not been made"),
        ("ledger/unidistill.csv", "ledger has not been made"),
        ("records/s7_complete.json", "run 's7_complete' has no record"),
        ("configs/s7_complete.yaml", "resolved config is missing"),
    ],
)
def test_missing_parts_stop_the_report(kept: Path, missing: str, message: str):
    (kept / missing).unlink()
    (kept / "report.html").unlink()
    with pytest.raises(DataError, match=message):
        make_report("sim", kept)
    assert not (kept / "report.html").exists()


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_same_page_without_a_run_an_index_or_a_data_set(kept: Path):
    for path in (kept / "configs").glob("*.yaml"):
        assert "root: nowhere" in path.read_text()
    before = files(kept)
    for name in ("report.html", "claims.csv", "metrics.json", "plots/seeds.csv", "plots/classes.csv"):
        (kept / name).unlink()
    make_report("sim", kept, partial=True)
    after = files(kept)
    assert after.keys() == before.keys()
    changed = {name for name in before if after[name] != before[name]}
    assert changed <= {"report.html"}, "only the configs that the page shows were changed by this test"
    assert "nowhere" in after["report.html"].decode()
    assert "Not made yet" not in after["report.html"].decode()


def test_a_part_that_is_not_there_is_named(kept: Path):
    for name in ("datasets", "label_efficiency"):
        for path in (kept / "parts" / f"{name}.json", kept / "ledger" / f"{name}.csv"):
            path.unlink()
    for path in ("tables/kitti.csv", "tables/waymo.csv", "records/kitti_lidar.json", "figures/detections.png"):
        (kept / path).unlink()
    make_report("sim", kept, partial=True)
    text = (kept / "report.html").read_text()
    assert "<b>Not made yet:</b> datasets, label_efficiency." in text
    assert 'id="table-unidistill_s6"' in text
    assert 'id="table-kitti"' not in text
    shown = re.findall(r'id="claim-(\w+)"', text)
    assert shown == list(ALL_PARTS["unidistill"].claims)
    assert [line.split(",")[1] for line in (kept / "claims.csv").read_text().splitlines()[1:]] == shown
    assert "kitti_lidar" not in json.loads((kept / "metrics.json").read_text())["runs"]


def test_parts_say_by_what_they_were_made(made: Path):
    text = (made / "report.html").read_text()
    for name in PARTS:
        part = json.loads((made / "parts" / f"{name}.json").read_text())
        assert (part["part"], part["scale"], part["tier"]) == (name, "sim", "all")
        assert part["torch"] == version("torch")
        assert datetime.fromisoformat(part["date"]).tzinfo is not None
        assert f"<code>{name}</code>" in text
        assert part["commit"] is None or f"<code>{part['commit']}" in text


def test_the_ledger_is_its_parts_in_the_order_of_the_claims(made: Path):
    lines = {line for name in PARTS for line in (made / "ledger" / f"{name}.csv").read_text().splitlines()[1:]}
    head, *joined = (made / "claims.csv").read_text().splitlines()
    assert set(joined) == lines
    assert [line.split(",")[1] for line in joined] == [c.id for c in load_claims().values() if c.target == "all"]
    assert head == (made / "ledger" / "datasets.csv").read_text().strip()


def test_a_ledger_of_other_claims_is_refused(kept: Path):
    path = kept / "ledger" / "label_efficiency.csv"
    path.write_text("\n".join(path.read_text().splitlines()[:-1]) + "\n")
    with pytest.raises(DataError, match="not those of part 'label_efficiency'"):
        make_report("sim", kept)


def test_a_record_of_other_seeds_is_refused(kept: Path):
    with pytest.raises(DataError, match=r"record of 'lidar_base' is of seeds 0, 1, 2.*field=seeds"):
        make_report("sim", kept, first_seeds(ROWS, 1))
