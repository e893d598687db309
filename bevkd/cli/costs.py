"""Commands that measure: `profile`, `bench`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bevkd.cli.common import RUNS, Measured, Run, RunsRoot, Scale, Seed, app, say
from bevkd.errors import ConfigError


@app.command()
def profile(
    model: Annotated[str | None, typer.Option(help="A model of config/models/*.yaml, as no run changes it.")] = None,
    run: Annotated[str | None, typer.Option(help="Instead: the network of a run, as tables show it.")] = None,
    scale: Annotated[str, typer.Option(help="smoke, sim or paper.")] = "paper",
    out: Annotated[Path | None, typer.Option(help="JSON file that tables read, besides stdout.")] = None,
) -> None:
    """Parameters, multiply-accumulates and latency of a detector, as JSON on stdout."""
    from bevkd.bench.profile import profile_model, profile_run
    from bevkd.io import check_output, json_text, write_json

    if out is not None:
        check_output(out)
    if model is not None and run is None:
        found = profile_model(model, scale)
    elif run is not None and model is None:
        found = profile_run(run, scale)
    else:
        raise ConfigError("profile wants either --model or --run")
    if out is not None:
        write_json(out, found)
    typer.echo(json_text(found, indent=1))


@app.command()
def bench(
    run: Run,
    scale: Scale = "sim",
    seed: Seed = 0,
    warmup: Annotated[int, typer.Option(help="Steps before the timed ones.")] = 50,
    steps: Annotated[int, typer.Option(help="Timed steps.")] = 200,
    repeats: Annotated[int, typer.Option(help="How often all of it is measured.")] = 3,
    batch: Annotated[int | None, typer.Option(help="Labelled frames per step; default: as in training.")] = None,
    out: Measured = None,
    runs: RunsRoot = RUNS,
) -> None:
    """What a training step of a run costs: without its teacher, with it live and cached."""
    from bevkd.config import load_run, run_dir
    from bevkd.report.runs import cost_file

    config, file = load_run(run, scale, seed), cost_file(run, scale, runs) if out is None else out
    from bevkd.bench.step import cost_of
    from bevkd.io import check_output

    check_output(file)
    cost_of(config, run_dir(run, scale, seed, runs), file, warmup, steps, repeats, batch)
    say(f"wrote {file}")
