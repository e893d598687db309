"""The page of the preview: one seed of each paper's headline in a table and a picture, and what is still to come."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from bevkd.config import Paper, RowConfig, load_papers, tiers
from bevkd.errors import DataError
from bevkd.io import write_text
from bevkd.provenance import provenance
from bevkd.report import html, tables
from bevkd.report.misfits import table_file
from bevkd.report.pages import PaperPage, load_page
from bevkd.report.parts import Part, parts_of
from bevkd.report.pictures import Picture, picture
from bevkd.report.render import Grid, grids
from bevkd.report.spec import load_claims, load_figures, load_tables

T = TypeVar("T")


@dataclass(frozen=True)
class Look:
    """What there is of a paper.

    Attributes:
        page: what it says of itself.
        shown: tables with their printed panels.
        pictures: what the runs of the tables detect.
        absent: names of tables that have not been made yet.
        part: what `all` makes of it.
        trainings: so many does `all` need for its tables and claims; papers may share some.
    """

    page: PaperPage
    shown: list[tuple[tables.Table, list[Grid]]]
    pictures: list[Picture]
    absent: list[str]
    part: Part | None
    trainings: int


def looks(folder: Path, scale: str, rows: Mapping[str, RowConfig], partial: bool) -> list[Look]:
    """All papers that have a preview or make something by default.

    Raises:
        ConfigError: a page.yaml is wrong.
        DataError: a table or figure of the preview is missing, unless `partial`, or damaged.
    """
    specs, drawn, claims = load_tables(scale), load_figures(scale), load_claims(scale)
    parts = {part.paper: part for part in parts_of(specs, drawn, claims).values() if part.target == "all"}
    out = []
    for paper in load_papers().values():
        files = {spec.name: table_file(folder, spec.name) for spec in _of(paper, specs).values()}
        images = {name: folder / "figures" / f"{name}.png" for name in _of(paper, drawn)}
        missing = [file for file in (*files.values(), *images.values()) if not file.exists()]
        if missing and not partial:
            raise DataError("this part of the preview has not been made", file=missing[0])
        read = [tables.read(specs[name], file, rows) for name, file in files.items() if file.exists()]
        part = parts.get(paper.name)
        if files or part is not None:
            out.append(
                Look(
                    page=load_page(paper, claims),
                    shown=[(table, grids(table)) for table in read],
                    pictures=[picture(drawn[name], file) for name, file in images.items() if file.exists()],
                    absent=[name for name, file in files.items() if not file.exists()],
                    part=part,
                    trainings=0 if part is None else sum(len(rows[run].seeds) for run in part.runs(rows)),
                )
            )
    return out


def _of(paper: Paper, items: Mapping[str, T]) -> dict[str, T]:
    found = tiers.of_target(items, "preview")
    return {name: item for name, item in found.items() if getattr(item, "part") == paper.name}  # noqa: B009


def write(folder: Path, scale: str, rows: Mapping[str, RowConfig], partial: bool = False) -> Path:
    """Write `preview.html` into the results folder.

    Raises:
        ConfigError, DataError: as `looks`.
    """
    content = {
        "scale": scale,
        "meaningless": scale in html.MEANINGLESS,
        "page": provenance(),
        "looks": looks(folder, scale, rows, partial),
        "configs": {},  # what the macros of tables would link to
    }
    path = folder / "preview.html"
    write_text(path, html.render(content, "preview.html.j2"))
    return path
