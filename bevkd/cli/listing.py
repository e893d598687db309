"""`list`: what there is by name, and what of it has been made."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from bevkd.cli.common import RUNS, RunsRoot, Scale, app, note

_KINDS = "runs, models, methods, tables, figures, claims or datasets"


@app.command("list", no_args_is_help=True)
def list_(
    kind: Annotated[str, typer.Argument(metavar="KIND", help=_KINDS)],
    text: Annotated[str, typer.Argument(metavar="TEXT", help="Only entries that hold this text anywhere.")] = "",
    scale: Scale = "sim",
    runs: RunsRoot = RUNS,
    json_out: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False,
) -> None:
    """List runs, models, methods, tables, figures, claims or data sets, with what has been trained or made.

    Of runs: the trained seeds at every scale, those that are not complete in brackets. A table on a terminal, lines
    with tabs elsewhere.
    """
    import json

    from bevkd.report.catalogue import catalogue, shown

    found = catalogue(kind, scale, runs, text)
    if json_out:
        typer.echo(json.dumps(found, indent=1))
        return
    columns = list(found[0]) if found else []
    lines = [[shown(entry[name]) for name in columns] for entry in found]
    if not found:
        note(f"no {kind} with {text!r}")
    elif sys.stdout.isatty():
        _table(kind, columns, lines, text)
    else:
        typer.echo("\n".join("\t".join(line) for line in [columns, *lines]))


def _table(kind: str, columns: list[str], lines: list[list[str]], text: str) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    kept = fitting(columns, lines, console.width)
    said = f"{len(lines)} {kind}" + (f" with {text!r}" if text else "")
    if hidden := [name for name in columns if name not in kept]:
        said += f"; not shown for want of room: {', '.join(hidden)}"
    table = Table(box=box.SIMPLE_HEAD, caption=said, caption_justify="left")
    # Words are folded: those of the widest column, which is not always the last one.
    folded = max(kept[1:] or kept, key=lambda name: max(len(line[columns.index(name)]) for line in lines))
    for name in kept:
        table.add_column(name, overflow="fold", no_wrap=name != folded)
    for line in lines:
        table.add_row(*(Text(line[columns.index(name)]) for name in kept))
    console.print(table)


_WORDS, _GAP = 30, 3  # characters that a column of words wants at least, and between two columns


def fitting(columns: list[str], lines: list[list[str]], width: int) -> list[str]:
    """The columns that a terminal has room for: those in front, and the last one, which may be folded."""
    widths = {name: max(len(line[i]) for line in [columns, *lines]) for i, name in enumerate(columns)}
    kept = list(columns)
    while len(kept) > 3 and sum(widths[name] + _GAP for name in kept[:-1]) + min(widths[kept[-1]], _WORDS) > width:
        del kept[-2]
    return kept
