"""The first look: derived from the headline of a paper, and a page of its own."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from bevkd.config import load_papers, load_rows
from bevkd.errors import ConfigError, DataError
from bevkd.report import make_preview, preview, refresh_page
from bevkd.report.pages import headline_table
from bevkd.report.spec import load_claims, load_figures, load_tables
from bevkd.report.tables import Row, Table, Value, to_frame

ROWS, PAPERS = load_rows(), load_papers()


def test_a_paper_without_a_preview_table_gets_one_of_its_first_headline() -> None:
    paper = PAPERS["label_efficiency"]
    assert "preview" not in paper.file("tables").read_text()
    table = load_tables()[preview.name_of(paper)]
    first = preview.first_comparison(paper)
    assert first is not None
    claim = load_claims()[f"{first[0].name}"]
    assert {row.role: row.run for row in table.rows} == {
        "baseline": claim.than,
        "teacher": ROWS[str(claim.better)].teacher,
        "distilled": claim.better,
    }
    assert table.columns[0].key == table.delta == claim.metric


def test_a_preview_table_that_is_written_stays_the_only_one() -> None:
    shown = [table for table in load_tables().values() if table.part == "unidistill" and table.target == "preview"]
    assert [table.name for table in shown] == ["unidistill_preview"]
    assert shown[0].title == "UniDistill, a first look"


def test_the_picture_shows_what_the_table_does() -> None:
    tables, figures = load_tables(), load_figures()
    for name in ("unidistill_preview", "label_efficiency_preview"):
        assert figures[name].target == "preview"
        assert set(figures[name].runs(ROWS)) == {row.run for row in tables[name].rows}
        assert figures[name].runs(ROWS)[0] == next(row.run for row in tables[name].rows if row.role == "teacher")


def test_a_paper_without_a_comparison_has_no_preview() -> None:
    assert preview.first_comparison(PAPERS["datasets"]) is None
    assert preview.table(PAPERS["datasets"], ROWS, "sim") is None
    assert not any(name.startswith("datasets") for name in load_figures())


def test_other_runs_may_stand_for_those_of_the_comparison() -> None:
    paper = PAPERS["label_efficiency"]
    first = preview.first_comparison(paper)
    assert first is not None
    item = replace(first[0], at={"paper": {str(first[0].baseline): "lidar_base"}})
    other = replace(paper, comparisons=paper.comparisons | {item.name: item})
    rows = {scale: preview.table(other, ROWS, scale) or {} for scale in ("sim", "paper")}
    assert next(row["run"] for row in rows["sim"]["rows"]) == first[0].baseline
    assert next(row["run"] for row in rows["paper"]["rows"]) == "lidar_base"
    assert rows["paper"]["rows"][-1]["against"] == "lidar_base"


def test_the_headline_table_is_named_or_the_first(tmp_path: Path) -> None:
    page = tmp_path / "page.yaml"
    paper = SimpleNamespace(name="mine", file=lambda stem: page)
    assert headline_table(paper, ["first", "second"]) == "first"  # type: ignore[arg-type]
    page.write_text("title: Mine\ntable: second\n")
    assert headline_table(paper, ["first", "second"]) == "second"  # type: ignore[arg-type]
    page.write_text("title: Mine\ntable: secnod\n")
    with pytest.raises(ConfigError, match=r"page.yaml: table: 'mine' makes no table 'secnod'.*'second'"):
        headline_table(paper, ["first", "second"])  # type: ignore[arg-type]


def made(results: Path, name: str) -> None:
    """A table of the preview with its picture, as its commands leave them."""
    spec = load_tables("smoke")[name]
    rows = [
        Row(
            row.group,
            row.role,
            row.label,
            str(row.run),
            {c.key: Value(float("nan"), 12.25) for c in spec.columns},
            None,
            1,
            "0",
            "",
        )
        for row in spec.rows
        if not isinstance(row, str)
    ]
    for folder in ("tables", "figures"):
        (results / folder).mkdir(parents=True, exist_ok=True)
    to_frame(Table(spec, tuple(rows))).to_csv(results / "tables" / f"{name}.csv", index=False)
    Image.new("RGB", (40, 20), "red").save(results / "figures" / f"{name}.png")


def test_the_page_shows_what_there_is_and_what_is_to_come(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has not been made"):
        make_preview("smoke", tmp_path)
    made(tmp_path, "unidistill_preview")
    page = refresh_page("smoke", tmp_path / "runs", tmp_path, after="unidistill_preview")
    assert page == tmp_path / "preview.html"
    text = page.read_text()
    assert "12.2" in text
    assert "data:image/webp" in text
    assert re.search(
        r"<b>Not there yet:</b> (label_efficiency_preview|, |crkd_preview|distillbev_preview|simdistill_preview)+\.",
        text,
    )
    assert not (tmp_path / "report.html").exists()
    made(tmp_path, "label_efficiency_preview")
    made(tmp_path, "crkd_preview")
    made(tmp_path, "distillbev_preview")
    made(tmp_path, "simdistill_preview")
    (page,) = make_preview("smoke", tmp_path)
    text = page.read_text()
    assert "Not there yet" not in text
    still = text.split("Still to come")[1]
    assert all(
        f'<th scope="row">{title}</th>' in still for title in ("UniDistill", "Label efficiency", "Other data sets")
    )
    assert "Numbers without meaning" in text
    shutil.rmtree(tmp_path / "figures")
    with pytest.raises(DataError, match="has not been made"):
        make_preview("smoke", tmp_path)
