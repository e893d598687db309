"""Commands that show results: `table`, `figure`, `part`, `report`, `view`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from bevkd.cli.common import RUNS, Run, RunsRoot, Scale, Seed, Seeds, app, note, say, trained
from bevkd.errors import ConfigError
from bevkd.io import check_output_folder

Name = Annotated[str, typer.Argument(help="Which; `bevkd list tables` and `figures` name all, `results/parts` parts.")]
Results = Annotated[Path | None, typer.Option(help="Results folder; default: that of the scale, above `--runs`.")]
Page = Annotated[bool, typer.Option("--page", help="Then make the page anew, of what has been made so far.")]


def _make(
    make: Callable[..., list[Path]], name: str, scale: str, runs: Path, out: Path | None, seeds: int, page: bool
) -> None:
    from bevkd.config import first_seeds, load_rows
    from bevkd.report import refresh_page

    rows = first_seeds(load_rows(scale), seeds)
    say(*(f"wrote {path}" for path in make(name, scale, runs, out, rows)))
    if page:
        refresh_page(scale, runs, out, rows, after=name)


@app.command()
def table(
    name: Name,
    scale: Scale = "sim",
    runs: RunsRoot = RUNS,
    out: Results = None,
    seeds: Seeds = 0,
    page: Page = False,
) -> None:
    """Write one table: csv, md and tex."""
    from bevkd.report import make_table

    _make(make_table, name, scale, runs, out, seeds, page)


@app.command()
def figure(
    name: Name,
    scale: Scale = "sim",
    runs: RunsRoot = RUNS,
    out: Results = None,
    seeds: Seeds = 0,
    page: Page = False,
) -> None:
    """Draw one figure: png and pdf.

    Learning curves leave their points, too: csv.
    """
    from bevkd.report import make_figure

    _make(make_figure, name, scale, runs, out, seeds, page)


@app.command()
def part(
    name: Name,
    scale: Scale = "sim",
    runs: RunsRoot = RUNS,
    out: Results = None,
    seeds: Seeds = 0,
    page: Page = False,
) -> None:
    """Finish a part of the results: test its claims, keep a record of its runs, and say by which code it was made."""
    from bevkd.report import make_part

    _make(make_part, name, scale, runs, out, seeds, page)


@app.command()
def report(
    scale: Scale = "sim",
    out: Results = None,
    seeds: Seeds = 0,
    partial: Annotated[bool, typer.Option("--partial", help="Leave out what has not been made, and say so.")] = False,
    preview: Annotated[bool, typer.Option("--preview", help="Instead preview.html: the first look, one seed.")] = False,
) -> None:
    """Gather tables, figures, ledger and records in one HTML page; needs no run and no data set."""
    from bevkd.config import first_seeds, load_rows
    from bevkd.report import make_preview, make_report

    make = make_preview if preview else make_report
    say(*(f"wrote {path}" for path in make(scale, out, first_seeds(load_rows(scale), seeds), partial)))


@app.command()
def view(
    run: Run,
    frame: Annotated[
        str | None, typer.Option(help="Sample token, see --list; default: the frame with most boxes.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the picture.")] = None,
    scale: Scale = "sim",
    seed: Seed = 0,
    runs: RunsRoot = RUNS,
    list_: Annotated[bool, typer.Option("--list", help="Only list the frames: token, scene, number of boxes.")] = False,
    split: Annotated[
        str | None, typer.Option(help="Split to list or to choose a frame from; default: the one that is reported.")
    ] = None,
    min_score: Annotated[float, typer.Option(min=0, max=1, help="Leave out detections with a lower score.")] = 0.3,
    size: Annotated[float, typer.Option(min=4, max=60, help="Width of the picture in inches.")] = 16.0,
    dpi: Annotated[int, typer.Option(min=30, max=1200, help="Pixels per inch.")] = 150,
    index: Annotated[Path | None, typer.Option(help="Another index than the run was trained on.")] = None,
    root: Annotated[Path | None, typer.Option(help="Another folder of the data set than it was trained on.")] = None,
) -> None:
    """Draw a frame in BEV and on the cameras: ground truth, and what a run and its companions detect.

    Companions are its teacher and its partners in the comparison that the run belongs to: the baseline, and for a
    control the distilled run. Those that are not trained are left out, and the picture says so.
    """
    trained(run, scale, seed, runs)
    if out is None and not list_:
        raise ConfigError("view wants --out FOLDER for the picture, or --list")
    from bevkd.config import load_rows
    from bevkd.report.runs import Runs
    from bevkd.report.viewer import Look, Viewed, view_frame

    viewed = Viewed.open(Runs(runs, scale, load_rows(scale)), run, seed, index, root)
    reader = viewed.reader()
    chosen = split or viewed.config.data.report_split
    if list_:
        typer.echo("\n".join(f"{token}\t{scene}\t{boxes} boxes" for token, scene, boxes in reader.frames(chosen)))
        return
    assert out is not None
    check_output_folder(out)
    if frame is None:
        reader.frames(chosen)  # there is such a split
        frame = reader.fullest(chosen, 1)[0]
    say(view_frame(viewed, reader, frame, out, Look(min_score, size, dpi), note))
