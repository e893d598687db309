from __future__ import annotations

import base64
import io
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml
from PIL import Image
from report_synthetic import write_runs

from bevkd.config import DataConfig, load_rows, to_plain
from bevkd.errors import DataError
from bevkd.report import make_claims, make_figure, make_report, make_table
from bevkd.report.spec import load_claims, load_figures, load_tables

ROWS = load_rows()


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


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, smoke_dataset) -> Path:
    """A results folder with everything of target `all`; detectors' pictures are stand-ins."""
    runs = tmp_path_factory.mktemp("page") / "results/runs"
    specs = [*load_tables().values(), *load_figures().values(), *load_claims().values()]
    items = [item for item in specs if item.target == "all"]
    needs = dict.fromkeys(need for item in items for need in item.needs(ROWS))
    teachers = [(row.teacher, row.teacher_seed) for row in (ROWS[run] for run, _ in needs) if row.teacher]
    write_runs(runs, ROWS, needs | dict.fromkeys(teachers))
    data = DataConfig(root=str(smoke_dataset.root), version="v1.0-sim", index=str(smoke_dataset.index))
    for path in runs.glob("sim/*/seed*/config.yaml"):
        config = yaml.load(path.read_text(), yaml.CSafeLoader)
        config["data"] = to_plain(data) | {"kind": config["data"]["kind"]}
        path.write_text(yaml.safe_dump(config))
    results = runs.parent
    for table in load_tables().values():
        if table.target == "all":
            make_table(table.name, "sim", runs)
    for figure in load_figures().values():
        if figure.target != "all":
            continue
        if figure.artefact == "model":
            (results / "figures").mkdir(exist_ok=True)
            Image.new("RGB", (8, 8)).save(results / "figures" / f"{figure.name}.png")
        else:
            make_figure(figure.name, "sim", runs)
    make_claims("sim", runs)
    make_report("sim", runs)
    return results


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


def test_extended_results_are_shown_where_they_are(made: Path, tmp_path: Path):
    results = tmp_path / "results"
    shutil.copytree(made, results)
    runs, table = results / "runs", load_tables()["label_efficiency_extended"]
    extended = [c for c in load_claims().values() if c.target == "extended"]
    needs = dict.fromkeys(need for item in (table, *extended) for need in item.needs(ROWS))
    write_runs(runs, ROWS, [need for need in needs if not (runs / "sim" / need[0]).exists()])
    make_table(table.name, "sim", runs)
    make_claims("sim", runs, target="extended")
    make_report("sim", runs)
    text = (results / "report.html").read_text()
    assert f'id="table-{table.name}"' in text
    assert all(f'id="claim-{c.id}"' in text for c in extended)


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("figures/unidistill_s2.png", "figure 'unidistill_s2' has not been made"),
        ("tables/unidistill_s6.csv", "table 'unidistill_s6' has not been made"),
        ("claims.csv", "ledger has not been made"),
    ],
)
def test_missing_parts_stop_the_report(made: Path, tmp_path: Path, missing: str, message: str):
    for part in ("figures", "tables"):
        shutil.copytree(made / part, tmp_path / part)
    shutil.copy(made / "claims.csv", tmp_path)
    (tmp_path / missing).unlink()
    with pytest.raises(DataError, match=message):
        make_report("sim", made / "runs", tmp_path)
    assert not (tmp_path / "report.html").exists()
