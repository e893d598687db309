"""Commands on data sets: `simulate`, `convert`, `doctor`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bevkd.cli.common import Scale, Workers, app
from bevkd.errors import ConfigError, nearest


@app.command()
def simulate(
    dataset: Annotated[str, typer.Option(help="Format to write.")],
    out: Annotated[Path, typer.Option(help="New folder.")],
    scale: Scale = "sim",
    seed: Annotated[int, typer.Option(help="Same seed, same bytes.")] = 0,
    workers: Workers = 1,
) -> None:
    """Simulate a driving data set and write it in its real on-disk format."""
    from bevkd.sim import WRITERS

    if dataset not in WRITERS:
        raise ConfigError(f"cannot simulate {dataset!r}{nearest(dataset, WRITERS)}; known: {', '.join(WRITERS)}")
    write, scales = WRITERS[dataset]
    if scale not in scales:
        raise ConfigError(f"unknown scale {scale!r}{nearest(scale, scales)}; known: {', '.join(scales)}")
    write(scales[scale], out, seed, workers=workers)


@app.command()
def convert(
    dataset: Annotated[str, typer.Option(help="Format to read.")],
    root: Annotated[Path, typer.Option(help="Folder of the data set.")],
    out: Annotated[Path, typer.Option(help="Folder of the Parquet index.")],
    version: Annotated[str | None, typer.Option(help="nuScenes: version, default v1.0-trainval.")] = None,
    workers: Workers = 1,
) -> None:
    """Index a data set (Parquet); sensor data stay where they are."""
    from bevkd.registry import lookup

    lookup("reader", dataset).convert(root, version, out, workers)


@app.command()
def doctor(
    root: Annotated[Path | None, typer.Option(help="A data set folder to look at.")] = None,
    version: Annotated[str, typer.Option(help="Its version.")] = "v1.0-trainval",
    json_out: Annotated[Path | None, typer.Option("--json", help="Write the findings as JSON too.")] = None,
) -> None:
    """What is installed, which fast paths are active, and what is wrong with a data set folder."""
    from bevkd.doctor import examine, render

    findings = examine(root, version)
    typer.echo(render(findings))
    if json_out is not None:
        from bevkd.io import write_json

        write_json(json_out, findings)
    if findings["problems"]:
        raise typer.Exit(3)
