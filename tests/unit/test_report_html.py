from __future__ import annotations

import base64
import io
import json
import math
import re
import shutil
from collections import Counter
from dataclasses import replace
from datetime import datetime
from html import unescape
from html.parser import HTMLParser
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from PIL import Image
from report_synthetic import write_runs

from bevkd.config import DataConfig, first_seeds, identity_digest, load_rows, rows_at, to_plain
from bevkd.config.chain import with_needed
from bevkd.errors import DataError
from bevkd.provenance import commit_date, provenance
from bevkd.report import headlines, ledger, make_figure, make_part, make_report, make_table
from bevkd.report.facts import ABSENT, detector_settings
from bevkd.report.frames import to_csv
from bevkd.report.html import context, render
from bevkd.report.parts import parts_of
from bevkd.report.records import read_record, record_file, write_record
from bevkd.report.results import Results
from bevkd.report.runs import read_config
from bevkd.report.spec import load_claims, load_figures, load_tables
from bevkd.report.story import VERDICTS

ROWS = load_rows()
ALL_PARTS = parts_of(load_tables(), load_figures(), load_claims())
ROOT = Path(__file__).resolve().parents[2]
COMMITTED, PAPERS = ROOT / "results", ROOT / "config" / "papers"
PARTS = [name for name, part in ALL_PARTS.items() if part.target == "all"]
WITH_CLAIMS = ("unidistill", "distillbev", "simdistill", "crkd")  # of papers, as the page has them


class Page(HTMLParser):
    """Links, sources, ids and tags of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.sources: list[str] = []
        self.outside: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.ids += [given["id"]] if given.get("id") else []
        self.links += [given["href"]] if given.get("href") and tag == "a" else []
        self.outside += [given["href"]] if given.get("href") and tag != "a" else []
        self.sources += [given["src"]] if given.get("src") else []
        if tag not in ("meta", "link", "img", "br", "input"):
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
    write_runs(runs, ROWS, with_needed(needs, rows_at("sim")))
    read_from(smoke_dataset, runs)
    results = runs.parent
    for table in load_tables().values():
        if table.target == "all":
            make_table(table.name, "sim", runs)
    for figure in load_figures().values():
        if figure.target != "all":
            continue
        if "model" in figure.artefacts:
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
        if record_file(tmp_path / "kept", path.stem).exists():
            record = read_record(tmp_path / "kept", path.stem)
            write_record(replace(record, settings=identity_digest(read_config(path))), tmp_path / "kept")
    return tmp_path / "kept"


def test_page_is_self_contained_and_whole(made: Path):
    text = (made / "report.html").read_text()
    page = Page(text)
    assert page.open == []
    assert page.outside == ["data:,"], "an empty icon, which browsers would ask for"
    assert all(link.startswith("#") for link in page.links)
    assert {link[1:] for link in page.links} <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))
    assert len(page.sources) == len([f for f in load_figures().values() if f.target == "all"])
    for source in page.sources:
        kind, content = source.split(",", 1)
        assert kind == "data:image/webp;base64"
        Image.open(io.BytesIO(base64.b64decode(content))).verify()
    assert "url(" not in text
    assert "://" not in re.sub(r"<pre>.*?</pre>", "", text, flags=re.DOTALL)
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
    assert '<th scope="row">train</th>' in text
    assert (
        'id="config-le_l_to_c"' in text
    )  # A version is a name of nuScenes only; KITTI and Waymo were headed by its default.
    assert set(re.findall(r"<h3>Data set <code>(.*?)</code>", text)) == {str(smoke_dataset.index)}


def test_the_ledger_on_the_page_says_what_it_could_have_seen(made: Path):
    text = (made / "report.html").read_text()
    for words in ("could see</th>", "p (Holm)</th>", "(unlabelled protocol; varied: student seeds, 2 teacher seeds)"):
        assert words in text
    assert "Published protocol: labelled frames only" in text
    claims = (made / "claims.csv").read_text().splitlines()
    at = claims[0].split(",").index("verdict_holm") - len(claims[0].split(","))
    assert {line.rsplit(",", 1)[at] for line in claims[1:]} <= {"reproduced", "contradicted", "inconclusive"}


def test_metrics_and_plots_for_dvc(made: Path):
    metrics = json.loads((made / "metrics.json").read_text())
    ledger = (made / "claims.csv").read_text()
    assert sum(metrics["claims"].values()) == len([c for c in load_claims().values() if c.target == "all"])
    assert metrics["claims"].get("reproduced", 0) == ledger.count(",reproduced\n"), "verdict_holm, the last column"
    assert 5 < metrics["runs"]["camera_base"]["mAP"] < 20
    seeds = (made / "plots/seeds.csv").read_text().splitlines()
    assert seeds[0].startswith("run,seed,mAP,NDS")
    assert sum(line.startswith("camera_base,") for line in seeds) == len(ROWS["camera_base"].seeds)
    assert (made / "plots/training.csv").read_text().startswith("run,step,total\n")


@pytest.fixture(scope="module")
def extended(made: Path, tmp_path_factory: pytest.TempPathFactory, smoke_dataset) -> Path:
    """The same with one table of an extended study, and its part."""
    results = tmp_path_factory.mktemp("extended") / "results"
    shutil.copytree(made, results)
    runs, part = results / "runs", ALL_PARTS["label_efficiency_extended"]
    items = [*part.tables.values(), *part.claims.values()]
    needs = dict.fromkeys(need for item in items for need in item.needs(ROWS))
    needed = with_needed(needs, ROWS)  # teachers, too
    write_runs(runs, ROWS, [need for need in needed if not (runs / "sim" / need[0]).exists()])
    read_from(smoke_dataset, runs)
    make_table("label_efficiency_extended", "sim", runs)
    make_part(part.name, "sim", runs)
    make_report("sim", results)
    return results


def test_extended_results_are_shown_where_they_are(made: Path, extended: Path):
    results, part = extended, ALL_PARTS["label_efficiency_extended"]
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


def test_the_same_results_give_the_same_page_at_any_time(kept: Path, monkeypatch: pytest.MonkeyPatch):
    make_report("sim", kept)
    before = files(kept)
    later = provenance() | {"date": "2031-01-01T00:00:00+00:00"}
    monkeypatch.setattr("bevkd.report.html.provenance", lambda: later)
    make_report("sim", kept)
    assert files(kept) == before


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
    assert shown == [claim for part in WITH_CLAIMS for claim in ALL_PARTS[part].claims]
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


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def other_claims(kept: Path, part: str) -> None:
    path = kept / "ledger" / f"{part}.csv"
    path.write_text("\n".join(path.read_text().splitlines()[:-1]) + "\n")


def other_columns(kept: Path, part: str) -> None:
    table = next(iter(ALL_PARTS[part].tables))
    change(kept / "tables" / f"{table}.csv", "mAP_paper", "mAP_printed")


def other_seeds(kept: Path, part: str) -> None:
    table = next(iter(ALL_PARTS[part].tables))
    change(kept / "tables" / f"{table}.csv", '"0,1,2,3"', '"0,1,2,9"')


OTHERS = {"claims": other_claims, "columns": other_columns, "seeds": other_seeds}


@pytest.mark.parametrize("what", OTHERS)
def test_a_part_made_for_something_else_is_left_out_and_named(kept: Path, what: str):
    OTHERS[what](kept, "label_efficiency")
    make_report("sim", kept, partial=True)
    text = (kept / "report.html").read_text()
    assert f"<b>Made for other {what}:</b> label_efficiency." in text
    assert not any(f'id="table-{name}"' in text for name in ALL_PARTS["label_efficiency"].tables)
    assert not any(f'id="figure-{name}"' in text for name in ALL_PARTS["label_efficiency"].figures)
    assert re.findall(r'id="claim-(\w+)"', text) == [claim for part in WITH_CLAIMS for claim in ALL_PARTS[part].claims]
    assert 'id="table-kitti"' in text
    assert 'id="table-unidistill_s6"' in text


def test_other_columns_stop_a_page_that_must_be_whole(kept: Path):
    other_columns(kept, "label_efficiency")
    with pytest.raises(DataError, match="columns are not those of table"):
        make_report("sim", kept)


@pytest.mark.parametrize(("what", "partial"), [("claims", False), ("columns", True), ("seeds", False)])
def test_parts_of_other_tiers_never_stop_the_page(kept: Path, extended: Path, what: str, partial: bool):
    """An extended study lies beside the results; it may be older than today's comparisons."""
    name = "label_efficiency_extended"
    part = ALL_PARTS[name]
    for path in (f"ledger/{name}.csv", f"tables/{name}.csv"):
        shutil.copy(extended / path, kept / path)
    assert "label_efficiency_extended" not in Results(kept, "sim", ROWS, partial).misfits
    if what == "seeds":
        path = kept / "tables/label_efficiency_extended.csv"
        path.write_text(path.read_text().replace("0,1,2", "0,1,7"))
    else:
        OTHERS[what](kept, name)
    make_report("sim", kept, partial=partial)
    text = (kept / "report.html").read_text()
    assert f"<b>Made for other {what}:</b> {name}." in text
    assert not any(f'id="claim-{claim}"' in text for claim in part.claims)
    assert not any(f'id="table-{table}"' in text for table in part.tables)
    assert 'id="table-label_efficiency"' in text


def test_a_record_of_other_settings_is_noticed(kept: Path):
    change(kept / "configs" / "kitti_lidar.yaml", "cell: 0.6", "cell: 0.9")
    with pytest.raises(DataError, match=r"record of 'kitti_lidar' is of other settings.*field=settings"):
        make_report("sim", kept)
    make_report("sim", kept, partial=True)
    text = (kept / "report.html").read_text()
    assert "<b>Made with other settings:</b> datasets." in text
    assert 'id="table-kitti"' in text


def test_runs_on_other_seeds_leave_their_parts_out(kept: Path):
    make_report("sim", kept, first_seeds(ROWS, 1), partial=True)
    text = (kept / "report.html").read_text()
    assert re.search(r"<b>Made for other seeds:</b> [^<]*unidistill", text)
    assert 'id="table-unidistill_s6"' not in text


def test_unknown_versions_are_a_dash_and_sources_stand_once(kept: Path):
    first, second = (*WITH_CLAIMS, "label_efficiency"), ("datasets", "image_weights")
    unknown = dict.fromkeys(("python", "numpy"))
    for names, more in (
        (first, {"source": "first source"}),
        (second, {"source": "second source", "bevkd": None, "torch": None}),
    ):
        for name in names:
            path = kept / "parts" / f"{name}.json"
            path.write_text(json.dumps(json.loads(path.read_text()) | unknown | more))
    for path in (kept / "records").glob("*.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"source": "a page of before"}))
    make_report("sim", kept)
    text = (kept / "report.html").read_text()
    known = f"bevkd {version('bevkd')}, torch {version('torch')}"
    assert text.count(f'<td class="left">{known}</td>') == len(first)
    assert text.count("Python") == 2, "of the page itself, in its head and in the list"
    assert [text.count(source) for source in ("First source", "Second source", "A page of before")] == [1, 1, 1]
    runs = len(list((kept / "records").glob("*.json")))
    assert text.count('<td class="left">—¹</td></tr>') == runs
    assert '<p class="dim">¹ A page of before.</p>' in text


def page_of(results: Results) -> str:
    return render(context(results))


def test_the_first_screen_is_computed_from_the_ledger(kept: Path):
    """Another ledger, another story: nothing that the page says of results is written by hand."""
    path = kept / "ledger" / "unidistill.csv"
    lines = path.read_text().splitlines()
    head = lines[0].split(",")
    frame = ledger.read(path)
    found = next(finding for finding in frame if finding.claim == "path2_map")
    others = [finding for finding in frame if finding.claim != "path2_map"]
    texts = {}
    for verdict, effect in (("reproduced", 43.21), ("contradicted", -43.21)):
        numbers = {"effect": effect, "ci_low": effect - 1, "ci_high": effect + 1}
        changed = replace(found, verdict=verdict, verdict_holm=verdict, **numbers)
        path.write_text(to_csv(ledger.to_frame([*others, changed])))
        assert path.read_text().splitlines()[0].split(",") == head
        make_report("sim", kept)
        texts[verdict] = (kept / "report.html").read_text()
    shown = re.search(r'<div class="point reproduced">.*?</div>', texts["reproduced"], re.DOTALL)
    assert shown
    assert "+43.2 mAP [+42.2, +44.2]" in shown[0]
    shown = re.search(r'<div class="point contradicted">.*?</div>', texts["contradicted"], re.DOTALL)
    assert shown
    assert "-43.2 mAP [-44.2, -42.2]" in shown[0]
    counts = [re.search(r"(\d+) of (\d+) reproduced", text) for text in texts.values()]
    assert counts[0]
    assert counts[1]
    assert int(counts[0][1]) == int(counts[1][1]) + 1
    pages = [yaml.safe_load(page.read_text()) for page in PAPERS.glob("*/page.yaml")]
    declared = {claim for page in pages for claim in page.get("headline", {})}
    tested = declared & {finding.claim for one in path.parent.glob("*.csv") for finding in ledger.read(one)}
    assert len(tested) > 20
    assert {count[2] for count in counts if count} == {str(len(tested))}, "headlines that were tested"


def test_a_gain_that_does_not_survive_the_correction_is_not_shown_as_one(kept: Path):
    path = kept / "ledger" / "unidistill.csv"
    gain = {"effect": 43.21, "ci_low": 42.21, "ci_high": 44.21, "verdict": "reproduced"}
    lines = [
        replace(f, **gain, p_value=0.0123, p_holm=0.31, verdict_holm="inconclusive") if f.claim == "path2_map" else f
        for f in ledger.read(path)
    ]
    path.write_text(to_csv(ledger.to_frame(lines)))
    make_report("sim", kept)
    text = unescape((kept / "report.html").read_text())
    cards = dict(re.findall(r'<div class="point (\w+)">(.*?)</div>', text, re.DOTALL))
    assert "+43.2 mAP" not in cards["reproduced"]
    words = "after Holm's correction (p 0.012 before)"
    assert f"inconclusive {words}" in cards["inconclusive"]
    line = re.search(
        r'<a href="#claim-path2_map">Path \(2\), L\+C to C</a></div>.*?<div class="verdict">(.*?)</div>',
        text,
        re.DOTALL,
    )
    assert line
    assert line[1] == f'<span class="badge inconclusive">inconclusive</span> <span class="correction">{words}</span>'
    assert '<tr id="claim-path2_map" data-verdict="inconclusive">' in text
    assert "reproduced before Holm's correction" in text


def test_verdicts_are_counted_by_paper(made: Path):
    text = (made / "report.html").read_text()
    for name in ("unidistill", "label_efficiency"):
        verdicts = Counter(finding.verdict_holm for finding in ledger.read(made / "ledger" / f"{name}.csv"))
        row = re.search(rf'<tr><th scope="row"><a href="#paper-{name}">.*?</tr>', text)
        assert row
        assert [int(n) for n in re.findall(r"<td>(\d+)</td>", row[0])] == [verdicts[kind] for kind in VERDICTS]


def test_the_difference_comes_first_with_the_verdict_of_its_claim(made: Path):
    text = (made / "report.html").read_text()
    start = text.index('id="table-unidistill_paths"')
    table = text[start : text.index("</table>", start)]
    assert re.findall(r"<th[^>]*>([^<]*)</th>", table)[:2] == ["row", "Δ mAP paired [95 % CI]"]
    row = re.search(
        r'<tr data-verdict="(\w+)"><th scope="row"><a href="#config-unidistill_p1">.*?</tr>', table, re.DOTALL
    )
    assert row
    (finding,) = [f for f in ledger.read(made / "ledger" / "unidistill.csv") if f.claim == "path1_map"]
    assert row[1] == finding.verdict_holm
    assert f'<a href="#claim-path1_map"><span class="badge {finding.verdict_holm}">' in row[0]
    assert f"{finding.effect:+.1f}" in row[0]


def test_errors_stand_in_metres_radians_and_metres_per_second(made: Path):
    text = (made / "report.html").read_text()
    assert "x100" not in text
    assert "mAOE rad, mAVE m/s" in text
    (table,) = [t for t in Results(made, "sim", ROWS).tables("all") if t.spec.name == "unidistill_paths"]
    stored = table.rows[0].values["mAOE"].ours
    assert stored > 10, "the file keeps what papers print"
    assert f"{stored / 100:.3f} ± " in text


def test_the_page_says_by_what_it_and_its_numbers_were_made(made: Path):
    text = (made / "report.html").read_text()
    head = text[text.index("<header>") : text.index("</header>")]
    now = provenance()
    days = (f"numbers of {now['date'][:10]}", (commit_date() or "—")[:10])
    for known in ("<b>sim</b>", "seeds 0, 1, 2", *days, f"torch {version('torch')}", now["processor"]):
        assert known in unescape(head)
    assert now["commit"] is None or now["commit"] in head
    assert text.count('<p class="dim made">Made by commit') == len(PARTS)


@pytest.mark.parametrize(("scale", "warned"), [("smoke", True), ("sim", False)])
def test_a_smoke_page_says_that_its_numbers_mean_nothing(kept: Path, scale: str, warned: bool):
    text = page_of(Results(kept, scale, ROWS, partial=True))
    banner = re.search(r'<p class="banner" role="alert">(.*?)</p>', text)
    assert bool(banner) == warned
    assert ("<title>Numbers without meaning" in text) == warned


def test_a_page_of_single_seeds_says_so(made: Path, tmp_path: Path):
    shutil.copytree(made, tmp_path / "one", ignore=shutil.ignore_patterns("runs"))
    for path in (tmp_path / "one" / "ledger").glob("*.csv"):
        found = [replace(f, n=1, ci_low=math.nan, ci_high=math.nan) for f in ledger.read(path)]
        path.write_text(to_csv(ledger.to_frame(found)))
    text = page_of(Results(tmp_path / "one", "sim", ROWS))
    assert "<b>Single seeds.</b>" in text
    assert not re.search(r"\bnan\b", re.sub(r"<pre>.*?</pre>|<script>.*?</script>", "", text, flags=re.DOTALL))


def test_a_page_of_one_table_names_what_is_not_there_yet(kept: Path, tmp_path: Path):
    """The page is made anew after each table: the first one stands alone, without a part, a ledger or a record."""
    for place in ("tables/unidistill_s4.csv", *(f"configs/{name}.yaml" for name in ("s4_p1", "s4_further"))):
        (tmp_path / "one" / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(kept / place, tmp_path / "one" / place)
    text = page_of(Results(tmp_path / "one", "sim", ROWS, partial=True))
    assert re.findall(r'id="table-(\w+)"', text) == ["unidistill_s4"]
    part = ALL_PARTS["unidistill"]
    rest = ", ".join(name for name in part.tables if name != "unidistill_s4")
    assert f"<b>Tables not there yet:</b> {rest}." in text
    assert f"<b>Figures not there yet:</b> {', '.join(part.figures)}." in text
    assert f"<b>Claims not there yet:</b> all {len(part.claims)}." in text
    assert "No headline comparison has been tested yet." in text
    page = Page(text)
    assert page.open == []
    assert {link[1:] for link in page.links} <= set(page.ids)


def test_a_page_of_nothing_says_so(tmp_path: Path):
    text = page_of(Results(tmp_path, "sim", ROWS, partial=True))
    assert f"<b>Not made yet:</b> {', '.join(PARTS)}." in text
    assert 'id="table-' not in text
    page = Page(text)
    assert page.open == []
    assert {link[1:] for link in page.links} <= set(page.ids)


def test_the_figure_of_the_first_screen_is_there_for_print(made: Path, tmp_path: Path):
    with Image.open(made / "figures" / "headlines.png") as image:
        assert min(image.size) > 500
    assert (made / "figures" / "headlines.pdf").read_bytes().startswith(b"%PDF")
    assert "figures/headlines.pdf" in (made / "report.html").read_text()
    assert headlines.write([], {}, tmp_path) == [], "nothing where no headline has been tested"
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_figure_is_named(kept: Path):
    (kept / "figures" / "detections.png").write_bytes(b"\x89PNG\r\n")
    with pytest.raises(DataError, match=r"figure cannot be read.*detections\.png"):
        make_report("sim", kept)


def test_words_of_users_are_escaped(kept: Path):
    rows = ROWS | {"lidar_base": replace(ROWS["lidar_base"], doc='<script>alert("x")</script>')}
    text = page_of(Results(kept, "sim", rows))
    assert "&lt;script&gt;alert(" in text
    assert text.count("<script>") == 1


@pytest.mark.committed_results
def test_detectors_by_data_set_against_what_is_published_for_their_kind():
    """The committed runs: KITTI and Waymo have grids of their own, and pillars are not the published encoder."""
    results = Results(COMMITTED, "sim", ROWS)
    places, found = detector_settings(results, results.runs())
    settings = {setting.key: setting for setting in found}
    assert {(row.model, row.dataset) for row in (ROWS[run] for run in results.runs())} == set(places)

    def used(key: str, *place: str):
        return settings[key].used[places.index(place)]

    assert used("grid.x", "lidar_pillar", "kitti_sim") == list(results.config("kitti_lidar").model.grid.x or ())
    assert used("grid.x", "lidar_pillar", "nuscenes_sim") is None
    assert used("head.tasks", "camera", "waymo_sim") == [["vehicle"], ["pedestrian"], ["cyclist"]]
    assert settings["lidar.kind"].published == ("voxel",)
    assert settings["lidar.cell"].published == (ABSENT,)
    assert settings["head.query.channels"].published == (ABSENT,)
    assert settings["bev.up_channels"].published == (256,)
    assert settings["loss.velocity_weight"].published == (0.2, ABSENT), "of the published head, and of another"
