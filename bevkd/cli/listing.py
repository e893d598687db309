"""`list`: what there is by name, and what of it has been made."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from bevkd.cli.common import RUNS, RunsRoot, Scale, app

_KINDS = "runs, models, methods, tables, figures, claims or datasets"


@app.command("list")
def list_(
    kind: Annotated[str, typer.Argument(metavar="KIND", help=_KINDS)],
    text: Annotated[str, typer.Argument(metavar="[TEXT]", help="Only entries that hold this text anywhere.")] = "",
    scale: Scale = "sim",
    runs: RunsRoot = RUNS,
    json_out: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False,
) -> None:
    """List runs, models, methods, tables, figures, claims or data sets, with what has been trained or made.

    Of runs: the trained seeds at every scale, those that are not complete in brackets. A table on a terminal, lines
    with tabs elsewhere.
    """
    import json

    from bevkd.config import load_scale
    from bevkd.report.catalogue import catalogue, shown

    load_scale(scale)
    found = catalogue(kind, scale, runs, text)
    if json_out:
        typer.echo(json.dumps(found, indent=1))
        return
    columns = list(found[0]) if found else []
    lines = [[shown(entry[name]) for name in columns] for entry in found]
    if sys.stdout.isatty():
        _table(kind, columns, lines, text)
        return
    for line in [columns, *lines] if found else []:
        typer.echo("\t".join(line))


def _table(kind: str, columns: list[str], lines: list[list[str]], text: str) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    said = f" with {text!r}" if text else ""
    table = Table(box=box.SIMPLE_HEAD, caption=f"{len(lines)} {kind}{said}", caption_justify="left")
    for number, name in enumerate(columns):
        table.add_column(name, overflow="fold", no_wrap=number == 0)
    for line in lines:
        table.add_row(*map(Text, line))
    Console().print(table)
