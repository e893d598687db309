"""Commands that show results: `table`, `figure`, `part`, `report`, `view`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bevkd.cli.common import RUNS, Run, RunsRoot, Scale, Seed, Seeds, app, trained

Page = Annotated[bool, typer.Option("--page", help="Then make the page anew, of what has been made so far.")]


@app.command()
def table(
    name: str,
    scale: Scale = "sim",
    runs: RunsRoot = RUNS,
    out: Path | None = None,
    seeds: Seeds = 0,
    page: Page = False,
) -> None:
    """Write one table: csv, md and tex."""
    from bevkd.config import first_seeds, load_rows
    from bevkd.report import make_table, refresh_page

    rows = first_seeds(load_rows(), seeds)
    make_table(name, scale, runs, out, rows)
    if page:
        refresh_page(scale, runs, out, rows)


@app.command()
def figure(
    name: str,
    scale: Scale = "sim",
    runs: RunsRoot = RUNS,
    out: Path | None = None,
    seeds: Seeds = 0,
    page: Page = False,
) -> None:
    """Draw one figure: png and pdf."""
    from bevkd.config import first_seeds, load_rows
    from bevkd.report import make_figure, refresh_page

    rows = first_seeds(load_rows(), seeds)
    make_figure(name, scale, runs, out, rows)
    if page:
        refresh_page(scale, runs, out, rows)


@app.command()
def part(
    name: str,
    scale: Scale = "sim",
    runs: RunsRoot = RUNS,
    out: Path | None = None,
    seeds: Seeds = 0,
    page: Page = False,
) -> None:
    """Finish a part of the results: test its claims, keep a record of its runs, and say by which code it was made."""
    from bevkd.config import first_seeds, load_rows
    from bevkd.report import make_part, refresh_page

    rows = first_seeds(load_rows(), seeds)
    make_part(name, scale, runs, out, rows)
    if page:
        refresh_page(scale, runs, out, rows)


@app.command()
def report(
    scale: Scale = "sim",
    out: Path | None = None,
    seeds: Seeds = 0,
    partial: Annotated[bool, typer.Option("--partial", help="Leave out what has not been made, and say so.")] = False,
) -> None:
    """Gather tables, figures, ledger and records in one HTML page; needs no run and no data set."""
    from bevkd.config import first_seeds, load_rows
    from bevkd.report import make_report

    make_report(scale, out, first_seeds(load_rows(), seeds), partial)


@app.command()
def view(
    run: Run,
    frame: Annotated[str, typer.Option(help="Sample token.")],
    out: Annotated[Path, typer.Option(help="Folder for the pictures.")],
    scale: Scale = "sim",
    seed: Seed = 0,
    runs: RunsRoot = RUNS,
) -> None:
    """Overlay ground truth, teacher, student and distilled boxes in BEV and on the cameras."""
    from bevkd.report import view as draw

    trained(run, scale, seed, runs)
    for path in draw(run, frame, out, scale=scale, seed=seed, runs=runs):
        typer.echo(path)
