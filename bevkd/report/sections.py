"""The page's sections, one per paper: its question, ledger, tables and figures, and what of them is not there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from bevkd.config import load_papers
from bevkd.report.claims import Finding
from bevkd.report.pages import PaperPage, load_page
from bevkd.report.parts import Part
from bevkd.report.pictures import Picture, picture
from bevkd.report.render import Grid, grids
from bevkd.report.results import Results
from bevkd.report.spec import load_claims, pool
from bevkd.report.tables import Row, Table

TIERS = {"all": "", "extended": "Extended study", "tuning": ""}


@dataclass(frozen=True)
class TableView:
    """A table with, for every row, what the ledger says of its difference; None where it says nothing."""

    table: Table
    findings: tuple[Finding | None, ...]

    def panels(self) -> list[tuple[Grid, tuple[Finding | None, ...]]]:
        """Printed panels with the findings of their rows: context has none, nor have panels without the difference."""
        nothing: tuple[None, ...] = ()
        return [(grid, self.findings if grid.gain else nothing) for grid in grids(self.table)]


@dataclass(frozen=True)
class PartView:
    """A part of the results as the page shows it.

    Attributes:
        part: tables, figures and claims that belong to it.
        heading: of its tier; "" for the default one.
        made: by which code, when and on what, see `bevkd.provenance`; None: it has not been finished.
        seeds: of the runs in its tables, `0, 1, 2`.
        state: what is wrong with it, such as "not made yet", or "".
        absent: kind (`tables`, `figures`, `claims`) -> names of those that are not there, of the default tier.
    """

    part: Part
    heading: str
    made: Mapping[str, Any] | None
    seeds: str
    state: str
    absent: dict[str, list[str]]
    findings: list[Finding]
    tables: list[TableView]
    figures: list[Picture]


@dataclass(frozen=True)
class Section:
    """A paper's section."""

    name: str
    page: PaperPage
    parts: list[PartView]

    @property
    def findings(self) -> list[Finding]:
        """Those of all its parts."""
        return [finding for view in self.parts for finding in view.findings]

    @property
    def verdicts(self) -> Counter[str]:
        """How many claims have which verdict."""
        return Counter(finding.counted for finding in self.findings)


def sections(results: Results) -> list[Section]:
    """All papers, those that print tables first, with what there is of each.

    Raises:
        ConfigError: a page.yaml is wrong.
        DataError: an output of target `all` is missing, unless the results are partial, or one is damaged.
    """
    claims = load_claims(results.scale)
    tiers: list[Any] = list(dict.fromkeys(part.target for part in results.parts.values()))
    findings = [finding for tier in tiers for finding in results.findings(tier)]
    tables = [table for tier in tiers for table in results.tables(tier)]
    pictures = [picture(spec, path) for tier in tiers for spec, path in results.figures(tier)]
    tested = {(f.better, f.than, f.metric): f for f in findings}
    states = {name: what for what, names in results.missing.items() for name in names}
    made = results.made()
    out = []
    for paper in load_papers().values():
        views = []
        for part in results.parts.values():
            if part.paper != paper.name:
                continue
            mine = [TableView(table, _of_rows(table, tested)) for table in tables if table.spec.name in part.tables]
            view = PartView(
                part=part,
                heading=TIERS.get(part.target, part.target),
                made=made.get(part.name),
                seeds=seeds_of(view.table for view in mine),
                state=states.get(part.name, ""),
                absent=results.absent(part),
                findings=[finding for finding in findings if finding.claim in part.claims],
                tables=mine,
                figures=[shown for shown in pictures if shown.spec.name in part.figures],
            )
            if view.made or view.state or view.tables or view.figures or view.findings:
                views.append(view)
        if views:
            out.append(Section(paper.name, load_page(paper, claims), views))
    return out


def _of_rows(table: Table, tested: Mapping[tuple[str, str, str], Finding]) -> tuple[Finding | None, ...]:
    """What the ledger says of the difference in each row."""
    spec = table.spec
    known = spec.planned

    def finding(row: Row) -> Finding | None:
        planned = known.get((row.group, row.role, row.label))
        if row.delta is None or planned is None or planned.against is None or spec.delta is None:
            return None
        return tested.get((row.run, " ".join(pool(planned.against)), spec.delta))

    return tuple(map(finding, table.rows))


def seeds_of(tables: Iterable[Table]) -> str:
    """The seeds of all rows, `0, 1, 2`."""
    texts = (row.seeds for table in tables for row in table.rows)
    found = {int(seed) for text in texts for part in text.split(";") for seed in part.split(",") if seed.strip()}
    return ", ".join(map(str, sorted(found)))
