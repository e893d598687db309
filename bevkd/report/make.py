"""What the command line and the workflow call: one function per kind of output."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from bevkd.config import RowConfig, first_seeds, load_rows
from bevkd.errors import ConfigError, nearest
from bevkd.io import write_text
from bevkd.report.metrics import Runs, results_dir
from bevkd.report.spec import Target, load_claims, load_figures, load_tables

logger = logging.getLogger(__name__)

RUNS = Path("results/runs")


def _place(scale: str, runs: Path, out: Path | None, rows: Mapping[str, RowConfig] | None) -> tuple[Runs, Path]:
    found = Runs(Path(runs), scale, load_rows() if rows is None else rows)
    return found, results_dir(scale, Path(runs)) if out is None else Path(out)


def make_table(
    name: str,
    scale: str = "sim",
    runs: Path = RUNS,
    out: Path | None = None,
    rows: Mapping[str, RowConfig] | None = None,
) -> list[Path]:
    """Write `tables/<name>.{csv,md,tex}` below `out`, and the resolved configs that they link to.

    `rows` replaces the experiment rows, for example to use fewer seeds.

    Raises:
        ConfigError: unknown table or run.
        DataError: a run is missing or unusable; the message names run and file.
    """
    from bevkd.report import tables

    specs = load_tables(scale)
    if name not in specs:
        raise ConfigError(f"unknown table {name!r}{nearest(name, specs)}; known: {', '.join(specs)}")
    if specs[name].target == "preview":
        rows = first_seeds(load_rows() if rows is None else rows, 1)
    found, results = _place(scale, runs, out, rows)
    return tables.write(tables.fill(specs[name], found, results), results / "tables")


def make_figure(
    name: str,
    scale: str = "sim",
    runs: Path = RUNS,
    out: Path | None = None,
    rows: Mapping[str, RowConfig] | None = None,
) -> list[Path]:
    """Draw `figures/<name>.{png,pdf}` below `out`.

    Raises:
        ConfigError: unknown figure or run.
        DataError: a run is missing or unusable; the message names run and file.
    """
    from bevkd.report import figures

    specs = load_figures(scale)
    if name not in specs:
        raise ConfigError(f"unknown figure {name!r}{nearest(name, specs)}; known: {', '.join(specs)}")
    found, results = _place(scale, runs, out, rows)
    return figures.write(specs[name], found, results / "figures")


def claims_file(target: Target) -> str:
    """Name of the ledger of a target: the extended one is made by hand and kept, so it has its own file."""
    return "claims.csv" if target == "all" else f"claims_{target}.csv"


def make_claims(
    scale: str = "sim",
    runs: Path = RUNS,
    out: Path | None = None,
    rows: Mapping[str, RowConfig] | None = None,
    target: Target = "all",
) -> Path:
    """Test every claim of a target and write the ledger, `claims.csv` (or `claims_extended.csv`) below `out`.

    Raises:
        ConfigError: a claim names an unknown run or metric.
        DataError: a run is missing or unusable; the message names run and file.
    """
    from bevkd.report import claims

    found, results = _place(scale, runs, out, rows)
    findings = [claims.answer(claim, found) for claim in load_claims(scale).values() if claim.target == target]
    for finding in findings:
        logger.info("%s: %s (%s)", finding.claim, finding.verdict, finding.note)
    path = results / claims_file(target)
    write_text(path, claims.to_csv(findings))
    return path


def make_report(
    scale: str = "sim",
    runs: Path = RUNS,
    out: Path | None = None,
    rows: Mapping[str, RowConfig] | None = None,
) -> list[Path]:
    """Write `report.html`, `metrics.json` and `plots/*.csv` below `out` from tables, figures and ledger made before.

    Raises:
        DataError: a table, figure or ledger of target `all` has not been made.
    """
    from bevkd.report import html, summary

    found, results = _place(scale, runs, out, rows)
    return [html.write(found, results), *summary.write(found, results)]


def view(run: str, frame: str, out: Path, *, scale: str = "sim", seed: int = 0, runs: Path = RUNS) -> list[Path]:
    """Draw one frame of a run in BEV and on the cameras; see `bevkd.report.overlay.view_frame`.

    Raises:
        ConfigError: unknown run.
        DataError: unknown frame, or a run that has not been trained.
    """
    from bevkd.report.overlay import view_frame

    return view_frame(Runs(Path(runs), scale, load_rows()), run, frame, Path(out), seed)
