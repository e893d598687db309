"""What the command line and the workflow call: one function per kind of output."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from uuid import uuid4

from bevkd.config import RowConfig, first_seeds, load_rows
from bevkd.errors import ConfigError, nearest
from bevkd.io import check_output_folder, read_text, write_json, write_text
from bevkd.provenance import provenance
from bevkd.report.parts import ledger_file, part_file, parts_of
from bevkd.report.runs import Runs, results_dir
from bevkd.report.spec import load_claims, load_figures, load_tables

logger = logging.getLogger(__name__)

RUNS = Path("results/runs")
_ASKED = ".page.asked"  # who asked last for a new page


def _place(scale: str, runs: Path, out: Path | None, rows: Mapping[str, RowConfig] | None) -> tuple[Runs, Path]:
    return Runs(Path(runs), scale, load_rows(scale) if rows is None else rows), _folder(scale, out, Path(runs))


def _folder(scale: str, out: Path | None, runs: Path = RUNS) -> Path:
    """The folder for results, which can be written."""
    folder = results_dir(scale, runs) if out is None else Path(out)
    check_output_folder(folder)
    return folder


def _seen(target: str, rows: Mapping[str, RowConfig] | None) -> Mapping[str, RowConfig] | None:
    """The rows as a tier sees them: in the preview with one seed each."""
    return first_seeds(load_rows() if rows is None else rows, 1) if target == "preview" else rows


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
    from bevkd.report import fill, render, width

    specs = load_tables(scale)
    if name not in specs:
        raise ConfigError(f"unknown table {name!r}{nearest(name, specs)}; known: {', '.join(specs)}")
    found, results = _place(scale, runs, out, _seen(specs[name].target, rows))
    table = width.remarked(fill.fill(specs[name], found, results), load_claims(scale).values())
    return render.write(table, results / "tables")


def make_figure(
    name: str,
    scale: str = "sim",
    runs: Path = RUNS,
    out: Path | None = None,
    rows: Mapping[str, RowConfig] | None = None,
) -> list[Path]:
    """Draw `figures/<name>.{png,pdf}` below `out`; learning curves leave their points beside it, `<name>.csv`.

    Raises:
        ConfigError: unknown figure or run.
        DataError: a run is missing or unusable; the message names run and file.
    """
    from bevkd.report import figures

    specs = load_figures(scale)
    if name not in specs:
        raise ConfigError(f"unknown figure {name!r}{nearest(name, specs)}; known: {', '.join(specs)}")
    found, results = _place(scale, runs, out, _seen(specs[name].target, rows))
    return figures.write(specs[name], found, results / "figures")


def make_part(
    name: str,
    scale: str = "sim",
    runs: Path = RUNS,
    out: Path | None = None,
    rows: Mapping[str, RowConfig] | None = None,
) -> list[Path]:
    """Finish a part of the results, whose tables and figures are made before, from its runs.

    Below `out`: `ledger/<part>.csv`, every claim of it tested; configs and records of its runs and records of their
    data sets, so that these are no longer needed; `parts/<part>.json`, by which code it was made.

    Raises:
        ConfigError: unknown part; a claim names an unknown run or metric.
        DataError: a run is missing or unusable; the message names run and file.
    """
    from bevkd.report import claims, counts, frames, ledger, records
    from bevkd.report.fill import publish_config

    parts = parts_of(load_tables(scale), load_figures(scale), load_claims(scale))
    if name not in parts:
        raise ConfigError(f"no part of the results is called {name!r}{nearest(name, parts)}; known: {', '.join(parts)}")
    part = parts[name]
    found, results = _place(scale, runs, out, rows)
    findings = claims.corrected([claims.answer(claim, found) for claim in part.claims.values()])
    for finding in findings:
        logger.info("%s: %s (%s)", finding.claim, finding.verdict, finding.note)
    trained = [run for run in part.runs(found.rows) if part.target != "tuning" or found.config_file(run).exists()]
    for run in trained:
        publish_config(found, run, results)
        records.write_record(records.make_record(found, run), results)
    for data in {found.config(run).data.index: found.config(run).data for run in trained}.values():
        counts.write_dataset(counts.count(data), results)
    path = ledger_file(results, name)
    write_text(path, frames.to_csv(ledger.to_frame(findings)))
    made = {"part": name, "paper": part.paper, "tier": part.target, "scale": scale, **provenance()}
    write_json(part_file(results, name), made)
    return [path, part_file(results, name)]


def make_report(
    scale: str = "sim",
    out: Path | None = None,
    rows: Mapping[str, RowConfig] | None = None,
    partial: bool = False,
) -> list[Path]:
    """Write page, `figures/headlines.*`, joined ledgers, `metrics.json` and `plots/*.csv` from what lies below `out`.

    Args:
        scale: scale name.
        out: the results folder.
        rows: replaces the experiment rows, for example to use fewer seeds.
        partial: leave out what has not been made, or was for other claims, columns or seeds, and say so on the page.

    Raises:
        DataError: a table, figure, part of the ledger or record of target `all` has not been made.
    """
    from bevkd.report import html, summary
    from bevkd.report.results import Results

    folder = _folder(scale, out)
    results = Results(folder, scale, load_rows(scale) if rows is None else rows, partial)
    for what, names in results.missing.items():
        logger.warning("parts of the results: %s: %s", what, ", ".join(names))
    return [*html.write(results), *summary.write(results)]


def make_preview(
    scale: str = "sim",
    out: Path | None = None,
    rows: Mapping[str, RowConfig] | None = None,
    partial: bool = False,
) -> list[Path]:
    """Write `preview.html` from the tables and figures of the preview that lie below `out`.

    Args:
        scale: scale name.
        out: the results folder.
        rows: replaces the experiment rows.
        partial: name what has not been made instead of raising an error.

    Raises:
        DataError: a table or figure of the preview has not been made.
    """
    from bevkd.report import first_look

    folder = _folder(scale, out)
    return [first_look.write(folder, scale, load_rows(scale) if rows is None else rows, partial)]


def refresh_page(
    scale: str = "sim",
    runs: Path = RUNS,
    out: Path | None = None,
    rows: Mapping[str, RowConfig] | None = None,
    after: str = "",
) -> Path | None:
    """Write the page alone, below `out`, of what has been made so far; one process at a time.

    After a table or figure of the preview (its name is `after`) it is the page of the preview.

    For a workflow that is still running: joined ledgers, metrics, plots and figures stay what they were until
    `make_report`. Of several processes that wait for their turn, the last one that asked does it for all of them.

    Returns:
        The page; None when it could not be made, which is logged: nobody waits for it, and `make_report` will tell.
    """
    from filelock import FileLock

    from bevkd.report import html
    from bevkd.report.results import Results

    found, folder = _place(scale, runs, out, rows)
    page, asked, mine = folder / "report.html", folder / _ASKED, uuid4().hex
    try:
        known = next((items for load in (load_tables, load_figures) if after in (items := load())), {}) if after else {}
        if after in known and known[after].target == "preview":
            return make_preview(scale, folder, found.rows, partial=True)[0]
        write_text(asked, mine)
        with FileLock(folder / ".page.lock"):
            # Whoever asked after this process began its page, or will, when all that this one made was there.
            if read_text(asked) == mine:
                html.write(Results(folder, scale, found.rows, partial=True), figure=False)
        return page
    except Exception:  # whatever is half done at this moment must not cost the table that has just been made
        logger.warning("the page could not be made anew", exc_info=True)
        return None
