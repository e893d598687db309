"""The report: one self-contained HTML page from the tables, figures and ledger that were made before."""

from __future__ import annotations

import base64
import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from bevkd import __version__
from bevkd.errors import DataError
from bevkd.io import write_text
from bevkd.report import claims, facts, tables
from bevkd.report.metrics import Runs, metric
from bevkd.report.render import grids, remarks
from bevkd.report.spec import load_claims, load_figures, load_tables
from bevkd.report.summary import reported_runs


@dataclass(frozen=True)
class Picture:
    """A figure with its image as a data URI."""

    name: str
    title: str
    caption: str
    uri: str


def _pictures(folder: Path, target: str) -> list[Picture]:
    out = []
    for spec in load_figures().values():
        path = folder / f"{spec.name}.png"
        if spec.target != target:
            continue
        if not path.exists():
            if target == "all":
                raise DataError(f"figure {spec.name!r} has not been made", file=path)
            continue
        text = base64.b64encode(path.read_bytes()).decode()
        out.append(Picture(spec.name, spec.title, spec.caption, f"data:image/png;base64,{text}"))
    return out


def _tables(folder: Path, target: str, scale: str) -> list[tables.Table]:
    specs = [spec for spec in load_tables(scale).values() if spec.target == target]
    if target != "all":  # made by hand, kept in git: shown where they are
        specs = [spec for spec in specs if (folder / f"{spec.name}.csv").exists()]
    specs.sort(key=lambda spec: not spec.published)  # what a paper prints comes first
    return [tables.from_csv(spec, folder / f"{spec.name}.csv") for spec in specs]


def _ledgers(results: Path) -> list[tuple[str, list[claims.Finding]]]:
    out = [("Default runs", claims.from_csv(results / "claims.csv"))]
    extended = results / "claims_extended.csv"
    return [*out, ("Extended runs", claims.from_csv(extended))] if extended.exists() else out


def _points(value: float, sign: bool = True, digits: int = 2) -> str:
    """A difference in printed units, or a dash."""
    return "—" if math.isnan(value) else f"{value:{'+' if sign else ''}.{digits}f}"


def _range(low: float, high: float, digits: int = 2) -> str:
    return "—" if math.isnan(low) else f"[{low:+.{digits}f}, {high:+.{digits}f}]"


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.1f} min" if seconds >= 60 else f"{seconds:.0f} s"


def _plain(value: Any) -> str:
    """A setting as text; lists stay short."""
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_plain(v) for v in value) + "]"
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def context(runs: Runs, results: Path) -> dict[str, Any]:
    """Everything that the template shows.

    Raises:
        DataError: an output of target `all`, a run or the index is missing.
    """
    names = reported_runs(runs)
    datasets = {runs.config(run).data.index: runs.config(run).data for run in names}
    ledgers = _ledgers(results)
    models, settings = facts.detector_settings(runs, names)
    trained = [facts.run_facts(runs, run) for run in names]
    return {
        "version": __version__,
        "scale": runs.scale,
        "datasets": [facts.dataset_facts(data) for data in datasets.values()],
        "verdicts": Counter(finding.verdict for _, ledger in ledgers for finding in ledger),
        "ledgers": ledgers,
        "sources": {claim.id: claim.source for claim in load_claims().values()},
        "tables": _tables(results / "tables", "all", runs.scale),
        "more_tables": [
            table for target in ("extended", "tuning") for table in _tables(results / "tables", target, runs.scale)
        ],
        "figures": _pictures(results / "figures", "all"),
        "more_figures": [
            *_pictures(results / "figures", "extended"),
            *_pictures(results / "figures", "tuning"),
        ],
        "switches": facts.method_switches(runs, names),
        "models": models,
        "settings": settings,
        "runs": trained,
        "total_seconds": sum(run.seconds * len(run.row.seeds) for run in trained),
        "configs": {run: runs.config_file(run).read_text(encoding="utf-8") for run in names},
    }


def render(content: dict[str, Any]) -> str:
    """The page."""
    environment = Environment(
        loader=PackageLoader("bevkd.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"points": _points, "minutes": _minutes, "plain": _plain}
    environment.globals |= {"grids": grids, "remarks": remarks, "span": _range, "metric": metric}
    return environment.get_template("report.html.j2").render(content)


def write(runs: Runs, results: Path) -> Path:
    """Write `report.html` into the results folder.

    Raises:
        DataError: an output of target `all`, a run or the index is missing.
    """
    path = results / "report.html"
    write_text(path, render(context(runs, results)))
    return path
