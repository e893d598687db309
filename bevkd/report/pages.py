"""What the page says of a paper before its results, from `config/papers/<paper>/page.yaml`: never what came out."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import field
from typing import Any

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from bevkd.config import Paper, parse
from bevkd.config.bounds import Name, NameOrNone, Words
from bevkd.config.plain import read_mapping
from bevkd.errors import ConfigError, nearest
from bevkd.report.preview import title_of
from bevkd.report.spec import ClaimConfig


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class PaperPage:
    """What the page says of a paper before its results.

    Attributes:
        title: heading of its section.
        question: what was asked, in a sentence or two.
        headline: claim id -> short name of the comparison.
        table: the headline table, which is made before all others; "": the first one of tables.yaml.
    """

    title: Words
    question: Words = ""
    headline: dict[Name, Words] = field(default_factory=dict)
    table: NameOrNone = ""


def _parsed(paper: Paper, headline: Mapping[str, str]) -> PaperPage:
    path = paper.file("page")
    plain: dict[str, Any] = {"title": title_of(paper), "headline": dict(headline)}
    plain |= read_mapping(path, ("title", "question", "headline", "table"))
    page: PaperPage = parse(PaperPage, plain, str(path))
    return page


def load_page(paper: Paper, claims: Mapping[str, ClaimConfig]) -> PaperPage:
    """The `page.yaml` of a paper; without one, its name and the first claim of every comparison that has controls.

    Raises:
        ConfigError: unknown key, wrong type, or a headline that is no claim of the paper.
    """
    mine = {name: claim for name, claim in claims.items() if claim.part == paper.name}
    first = {(claim.better, claim.than): claim for claim in reversed(mine.values()) if _tests_a_teacher(claim)}
    page = _parsed(paper, {claim.id: claim.statement for claim in mine.values() if claim in first.values()})
    for name in page.headline:
        if name not in mine:
            raise ConfigError(
                f"{paper.file('page')}: headline: {paper.name!r} has no claim {name!r}{nearest(name, mine)}"
            )
    return page


def _tests_a_teacher(claim: ClaimConfig) -> bool:
    return claim.kind == "greater" and claim.target == "all" and bool(claim.controls)


def headline_table(paper: Paper, tables: Collection[str]) -> str:
    """The headline table among those of the default target, at least one, of a paper.

    Raises:
        ConfigError: `page.yaml` names another one, or is wrong.
    """
    name = _parsed(paper, {}).table or next(iter(tables))
    if name not in tables:
        raise ConfigError(f"{paper.file('page')}: table: {paper.name!r} makes no table {name!r}{nearest(name, tables)}")
    return name
