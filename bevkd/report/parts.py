"""Results come in parts: the tables, figures and claims of one paper and tier, made and dated together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bevkd.config import RowConfig
from bevkd.config.tiers import Tier
from bevkd.report.figure_kinds import FigureConfig
from bevkd.report.spec import ClaimConfig, Item, TableConfig


@dataclass(frozen=True)
class Part:
    """The `tables`, `figures` and `claims` of one paper (folder of config/papers) and tier, by name."""

    name: str
    paper: str
    target: Tier
    tables: dict[str, TableConfig] = field(default_factory=dict)
    figures: dict[str, FigureConfig] = field(default_factory=dict)
    claims: dict[str, ClaimConfig] = field(default_factory=dict)

    def comparisons(self) -> list[Item]:
        """Tables and claims: what runs are compared in."""
        return [*self.tables.values(), *self.claims.values()]

    def runs(self, rows: Mapping[str, RowConfig]) -> list[str]:
        """Runs behind its tables and claims, in the order of the experiment rows.

        Raises:
            ConfigError: one is unknown.
        """
        return runs_behind(self.comparisons(), rows)


def parts_of(
    tables: Mapping[str, TableConfig], figures: Mapping[str, FigureConfig], claims: Mapping[str, ClaimConfig]
) -> dict[str, Part]:
    """All parts by name: that of the paper, followed by the tier where this is not the default one.

    Tables and figures of the preview belong to none: they show single seeds.
    """
    out: dict[str, Part] = {}

    def part(item: Item) -> Part:
        name = item.part if item.target in ("all", item.part) else f"{item.part}_{item.target}"
        return out.setdefault(name, Part(name, item.part, item.target))

    for name, table in tables.items():
        if table.target != "preview":
            part(table).tables[name] = table
    for name, figure in figures.items():
        if figure.target != "preview":
            part(figure).figures[name] = figure
    for name, claim in claims.items():
        part(claim).claims[name] = claim
    return out


def runs_behind(items: Iterable[Item], rows: Mapping[str, RowConfig]) -> list[str]:
    """Run ids that items read, in the order of the experiment rows.

    Raises:
        ConfigError: one is unknown.
    """
    wanted = {run for item in items for run, _ in item.needs(rows)}
    return [run for run in rows if run in wanted]


def part_file(results: Path, part: str) -> Path:
    """Says when, by which code and on what a part was made."""
    return results / "parts" / f"{part}.json"


def ledger_file(results: Path, part: str) -> Path:
    """The claims ledger of a part."""
    return results / "ledger" / f"{part}.csv"


def part_metrics(results: Path, part: str) -> Path:
    """The few numbers of a part that `dvc metrics show` prints."""
    return results / "metrics" / f"{part}.json"


def joined_ledger(results: Path, target: Tier) -> Path:
    """The ledger of all parts of a tier."""
    return results / ("claims.csv" if target == "all" else f"claims_{target}.csv")
