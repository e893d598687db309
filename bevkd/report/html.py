"""The report: one self-contained HTML page from tables, figures, ledger, configs and records made before."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from bevkd import __version__
from bevkd.io import write_text
from bevkd.provenance import commit_date, provenance
from bevkd.report import effects, facts, headlines, significance, story
from bevkd.report.claims import Finding
from bevkd.report.metrics import Shown, metric
from bevkd.report.records import RunRecord
from bevkd.report.render import raised, remarks
from bevkd.report.results import Results
from bevkd.report.sections import sections, seeds_of
from bevkd.report.spec import load_claims

# Scales whose numbers only show that everything runs.
MEANINGLESS = ("smoke",)


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


def _day(made: Mapping[str, Any] | None) -> str:
    """`2026-11-21 08:57 UTC`, or a dash."""
    text = (made or {}).get("date")
    return "—" if not text else datetime.fromisoformat(text).astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def _days(parts: Sequence[Mapping[str, Any]]) -> str:
    """`2026-11-20 to 2026-11-21`: when the parts were made, or a dash."""
    days = sorted({_day(made)[:10] for made in parts if made.get("date")})
    return " to ".join(dict.fromkeys((days[0], days[-1]))) if days else "—"


def _versions(made: Mapping[str, Any]) -> str:
    """Versions that are known of the code and its libraries, or a dash."""
    names = {"bevkd": "bevkd", "python": "Python", "torch": "torch", "numpy": "numpy"}
    return ", ".join(f"{name} {made[key]}" for key, name in names.items() if made.get(key)) or "—"


def _machine(made: Mapping[str, Any]) -> str:
    """Processor and number of its cores, or a dash."""
    known = [str(made["processor"])] if made.get("processor") else []
    return ", ".join(known + ([f"{made['cores']} cores"] if made.get("cores") else [])) or "—"


def _origin(record: RunRecord) -> str:
    """By which code, with which PyTorch and on what the seeds of a run were trained, or a dash."""
    known = [seed.made for seed in record.seeds if seed.made]
    texts = [f"{_code(m)}, torch {m['torch']}, {m['device']}, {m['precision']}" for m in known]
    return "; ".join(dict.fromkeys(texts)) or "—"


def _ledger(finding: Finding) -> Shown:
    """How the numbers of a line of the ledger are shown: with two digits at least."""
    shown = metric(finding.metric).shown
    return replace(shown, digits=max(2, shown.digits))


def _p_values(finding: Finding) -> str:
    """`0.012 (0.081)`: p of a claim and, where it has one, Holm's; a dash without a test."""
    texts = [significance.text(p) for p in (finding.p_value, finding.p_holm) if not math.isnan(p)]
    return f"{texts[0]} ({texts[1]})" if len(texts) == 2 else (texts or ["—"])[0]


def context(results: Results) -> dict[str, Any]:
    """Everything that the template shows.

    Raises:
        ConfigError: what a page.yaml says is wrong.
        DataError: an output of target `all`, or a record, is missing.
    """
    names = results.runs()
    papers = sections(results)
    findings = [finding for paper in papers for finding in paper.findings]
    pages = {paper.name: paper.page for paper in papers}
    known = story.headlines(pages, findings, results.rows)
    others = story.beyond(pages, {paper.name: paper.findings for paper in papers}, results.rows)
    detectors, settings = facts.detector_settings(results, names)
    records = [(results.row(run), results.record(run)) for run in names]
    parts = [view for paper in papers for view in paper.parts if view.made]
    return {
        "version": __version__,
        "scale": results.scale,
        "meaningless": results.scale in MEANINGLESS,
        "single": bool(findings) and all(finding.n < 2 for finding in findings),
        # The same page whenever it is written: its date is that of its commit.
        "page": provenance() | {"date": commit_date()},
        "days": _days([view.made for view in parts if view.made]),
        "seeds": seeds_of(view.table for paper in papers for part in paper.parts for view in part.tables),
        "papers": papers,
        "titles": {paper.name: paper.page.title for paper in papers},
        "headlines": known,
        "points": story.points(known, others),
        "axes": effects.axes(known),
        "verdicts": Counter(finding.counted for finding in findings),
        "parts": parts,
        # Sentences that many lines share stand once below their table.
        "part_sources": list(dict.fromkeys(view.made["source"] for view in parts if view.made and _source(view.made))),
        "run_sources": list(dict.fromkeys(record.source for _, record in records if record.source)),
        "missing": results.missing,
        "datasets": results.datasets(),
        "sources": {claim.id: claim.source for claim in load_claims().values()},
        "switches": facts.method_switches(results, names),
        "detectors": detectors,
        "settings": settings,
        "runs": records,
        "total_seconds": sum((record.seconds or 0.0) * len(record.seeds) for _, record in records),
        "configs": {run: results.config_file(run).read_text(encoding="utf-8") for run in names},
    }


def _source(made: Mapping[str, Any]) -> str:
    return str(made.get("source") or "")


def render(content: dict[str, Any], template: str = "report.html.j2") -> str:
    """The page."""
    environment = Environment(
        loader=PackageLoader("bevkd.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"minutes": _minutes, "plain": _plain, "origin": _origin, "raised": raised, "shown": _ledger}
    environment.filters |= {"p_values": _p_values}
    environment.filters |= {"code": _code, "day": _day, "versions": _versions, "machine": _machine, "source": _source}
    environment.globals |= {"remarks": remarks, "verdict_names": story.VERDICTS}
    return environment.get_template(template).render(content)


def write(results: Results, figure: bool = True) -> list[Path]:
    """Write `report.html` into the results folder and, if asked for, the figure of its first screen for print.

    Raises:
        ConfigError: what a page.yaml says is wrong.
        DataError: an output of target `all`, or a record, is missing.
    """
    path, content = results.folder / "report.html", context(results)
    write_text(path, render(content))
    if not figure:
        return [path]
    return [path, *headlines.write(content["headlines"], content["titles"], results.folder / "figures")]
