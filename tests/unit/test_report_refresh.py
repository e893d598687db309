"""The page of a workflow that still runs, and the few numbers per paper; from the committed results."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
from filelock import FileLock

from bevkd.cli import main
from bevkd.io import write_text
from bevkd.report import html, make, make_report, refresh_page
from bevkd.report.results import Results

COMMITTED = Path(__file__).resolve().parents[2] / "results"
RUNS = Path("nowhere/runs")


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """A copy of what is committed, without anything that a run leaves besides."""
    folders = ("tables", "figures", "ledger", "parts", "records", "configs", "costs")
    for name in folders:
        shutil.copytree(COMMITTED / name, tmp_path / "results" / name)
    return tmp_path / "results"


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.committed_results
def test_the_first_table_is_on_the_page_before_the_rest_is_done(tmp_path: Path) -> None:
    results = tmp_path / "results"
    (results / "tables").mkdir(parents=True)
    shutil.copyfile(COMMITTED / "tables" / "unidistill_s1.csv", results / "tables" / "unidistill_s1.csv")
    before = files(results)
    assert refresh_page("sim", RUNS, results) == results / "report.html"
    text = (results / "report.html").read_text()
    assert 'id="table-unidistill_s1"' in text
    assert 'id="table-unidistill_s2"' not in text
    made = files(results).keys() - before.keys()
    assert made <= {"report.html", ".page.asked", ".page.lock"}, "ledgers, metrics and plots wait for the end"


@pytest.mark.committed_results
def test_a_page_that_cannot_be_made_costs_nothing_but_a_warning(kept: Path, caplog: pytest.LogCaptureFixture) -> None:
    (kept / "report.html").write_text("before")
    (kept / "records" / "lidar_base.json").write_text("{half")
    assert refresh_page("sim", RUNS, kept) is None
    assert (kept / "report.html").read_text() == "before"
    assert "the page could not be made anew" in caplog.text


def test_the_last_that_asked_makes_the_page_for_all_that_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Path] = []
    asked = Barrier(6)

    def write(results: Results, figure: bool) -> list[Path]:
        made.append(results.folder)
        return [results.folder / "report.html"]

    def ask(path: Path, text: str) -> None:
        write_text(path, text)
        asked.wait(60)

    monkeypatch.setattr(html, "write", write)
    monkeypatch.setattr(make, "write_text", ask)
    with ThreadPoolExecutor(5) as pool:
        with FileLock(tmp_path / ".page.lock"):
            waiting = [pool.submit(refresh_page, "sim", RUNS, tmp_path) for _ in range(5)]
            asked.wait(60)
            assert made == []
        assert [one.result() for one in waiting] == [tmp_path / "report.html"] * 5
    assert made == [tmp_path]


@pytest.mark.parametrize("command", ["table", "figure", "part"])
def test_commands_make_the_page_when_asked(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import bevkd.report

    asked: list[tuple[str, Path]] = []
    monkeypatch.setattr(bevkd.report, f"make_{command}", lambda *arguments: [])
    monkeypatch.setattr(bevkd.report, "refresh_page", lambda scale, runs, out, rows, after: asked.append((scale, out)))
    plain = [command, "any", "--scale", "smoke", "--out", str(tmp_path)]
    assert main(plain) == 0
    assert asked == []
    assert main([*plain, "--page"]) == 0
    assert asked == [("smoke", tmp_path)]


@pytest.mark.committed_results
def test_metrics_are_a_few_numbers_for_each_paper(kept: Path) -> None:
    make_report("sim", kept, partial=True)
    found = {path.stem: json.loads(path.read_text()) for path in (kept / "metrics").iterdir()}
    assert found == {path.stem: json.loads(path.read_text()) for path in (COMMITTED / "metrics").iterdir()}
    assert found.keys() == {path.stem for path in (COMMITTED / "ledger").iterdir()}
    assert len({key for values in found.values() for key in values}) <= 6
    for name, values in found.items():
        ledger = (COMMITTED / "ledger" / f"{name}.csv").read_text()
        for verdict in ("reproduced", "contradicted", "inconclusive"):
            assert values[verdict] == ledger.count(f",{verdict}\n"), f"{name}: verdict_holm, the last column"
    record = json.loads((COMMITTED / "records" / "fusion_base.json").read_text())
    assert 0 < found["unidistill"]["best"] < record["metrics"]["mAP"], "a teacher is not the best of its students"
    assert "best" not in found.get("tuning", {}), "it never looks at the reported split"
