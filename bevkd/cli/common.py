"""What commands share: the application, the options that several take, and the folder of a trained run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bevkd.errors import ConfigError, nearest

app = typer.Typer(
    name="bevkd",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Cross-modality knowledge distillation of bird's-eye-view 3D object detectors.",
)

Scale = Annotated[str, typer.Option(help="smoke, sim (default) or paper: config/scales/*.yaml")]
Seed = Annotated[int, typer.Option(help="Seed of the run.")]
Run = Annotated[str, typer.Option(help="Run id: a row of config/papers/*/runs.yaml.")]
Overrides = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a setting.")]
RunsRoot = Annotated[Path, typer.Option(help="Folder of all runs.")]
Seeds = Annotated[int, typer.Option(min=0, help="Use only the first so many seeds of each run; 0: all.")]
Workers = Annotated[int, typer.Option(min=1, help="Processes.")]

RUNS = Path("results/runs")


def trained(run: str, scale: str, seed: int, runs: Path) -> Path:
    """Folder of a run; a run that is neither there nor known is an error before torch is imported.

    Raises:
        ConfigError: there is no such run.
    """
    from bevkd.config import load_rows, run_dir

    folder = run_dir(run, scale, seed, runs)
    if not folder.exists() and run not in (rows := load_rows()):
        raise ConfigError(f"unknown run {run!r}{nearest(run, rows)}")
    return folder
