"""The report: one self-contained HTML page from tables, figures, ledger, configs and records made before."""

from __future__ import annotations

import base64
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from bevkd import __version__
from bevkd.io import write_text
from bevkd.report import facts
from bevkd.report.metrics import metric
from bevkd.report.records import RunRecord
from bevkd.report.render import grids, raised, remarks
from bevkd.report.results import Results
from bevkd.report.spec import Target, load_claims


@dataclass(frozen=True)
class Picture:
    """A figure with its image as a data URI."""

    name: str
    title: str
    caption: str
    uri: str


def _pictures(results: Results, target: Target) -> list[Picture]:
    out = []
    for spec, path in results.figures(target):
        text = base64.b64encode(path.read_bytes()).decode()
        out.append(Picture(spec.name, spec.title, spec.caption, f"data:image/png;base64,{text}"))
    return out


def _points(value: float | None, sign: bool = True, digits: int = 2) -> str:
    """A difference in printed units, or a dash."""
    return "—" if value is None or math.isnan(value) else f"{value:{'+' if sign else ''}.{digits}f}"


def _range(low: float, high: float, digits: int = 2) -> str:
    return "—" if math.isnan(low) else f"[{low:+.{digits}f}, {high:+.{digits}f}]"


def _minutes(seconds: float | None) -> str:
    if seconds is None:
        return "—"
    return f"{seconds / 60:.1f} min" if seconds >= 60 else f"{seconds:.0f} s"


def _plain(value: Any) -> str:
    """A setting as text; lists stay short."""
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_plain(v) for v in value) + "]"
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _code(made: Mapping[str, Any] | None) -> str:
    """`0123456789ab`, with a plus where the code had been changed since; a dash where nothing is known."""
    name = (made or {}).get("commit") or "—"
    return f"{name}+" if (made or {}).get("changed") else str(name)


def _versions(made: Mapping[str, Any]) -> str:
    """Versions that are known of the code and its libraries, or a dash."""
    names = {"bevkd": "bevkd", "python": "Python", "torch": "torch", "numpy": "numpy"}
    return ", ".join(f"{name} {made[key]}" for key, name in names.items() if made.get(key)) or "—"


def _origin(record: RunRecord) -> str:
    """By which code, with which PyTorch and on what the seeds of a run were trained, or a dash."""
    known = [seed.made for seed in record.seeds if seed.made]
    texts = [f"{_code(m)}, torch {m['torch']}, {m['device']}, {m['precision']}" for m in known]
    return "; ".join(dict.fromkeys(texts)) or "—"


def context(results: Results) -> dict[str, Any]:
    """Everything that the template shows.

    Raises:
        DataError: an output of target `all`, or a record, is missing.
    """
    names = results.runs()
    ledgers = [("Default runs", results.findings("all")), ("Extended runs", results.findings("extended"))]
    ledgers = [(name, findings) for name, findings in ledgers if findings]
    detectors, settings = facts.detector_settings(results, names)
    records = [(results.row(run), results.record(run)) for run in names]
    parts = results.made()
    return {
        "version": __version__,
        "scale": results.scale,
        "parts": parts,
        # Sentences that many lines share stand once below their table.
        "part_sources": list(dict.fromkeys(part["source"] for part in parts.values() if part.get("source"))),
        "run_sources": list(dict.fromkeys(record.source for _, record in records if record.source)),
        "missing": results.missing,
        "datasets": results.datasets(),
        "verdicts": Counter(finding.verdict for _, ledger in ledgers for finding in ledger),
        "ledgers": ledgers,
        "sources": {claim.id: claim.source for claim in load_claims().values()},
        "tables": results.tables("all"),
        "more_tables": [table for target in ("extended", "tuning") for table in results.tables(target)],
        "figures": _pictures(results, "all"),
        "more_figures": [picture for target in ("extended", "tuning") for picture in _pictures(results, target)],
        "switches": facts.method_switches(results, names),
        "detectors": detectors,
        "settings": settings,
        "runs": records,
        "total_seconds": sum((record.seconds or 0.0) * len(record.seeds) for _, record in records),
        "configs": {run: results.config_file(run).read_text(encoding="utf-8") for run in names},
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
    environment.filters |= {"code": _code, "versions": _versions, "origin": _origin, "raised": raised}
    environment.globals |= {"grids": grids, "remarks": remarks, "span": _range, "metric": metric}
    return environment.get_template("report.html.j2").render(content)


def write(results: Results) -> Path:
    """Write `report.html` into the results folder.

    Raises:
        DataError: an output of target `all`, or a record, is missing.
    """
    path = results.folder / "report.html"
    write_text(path, render(context(results)))
    return path
