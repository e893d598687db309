"""What commands share: the application, options that several take, what they say, and the folder of a trained run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from bevkd.errors import DataError
from bevkd.hints import RUNS, how_to_train

# As a user meets them: data, runs, what comes of them, and last what costs are measured with.
ORDER = (
    *("doctor", "simulate", "convert", "virtual-points"),
    *("train", "predict", "evaluate", "view", "list", "config"),
    *("cache", "response", "gates", "attention", "matches", "breakdown", "table", "figure", "part", "report"),
    *("profile", "bench", "version"),
)


class _Ordered(TyperGroup):
    """Commands in the order of `ORDER`, whatever module was imported first."""

    def list_commands(self, ctx: Any) -> list[str]:
        return sorted(self.commands, key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER))

    def invoke(self, ctx: Any) -> Any:
        """The command; a file that ends early is no end of a terminal's input, which is what typer takes it for."""
        try:
            return super().invoke(ctx)
        except EOFError as error:
            raise DataError(f"a file ends too early: {error}") from error


app = typer.Typer(
    name="bevkd",
    cls=_Ordered,
    no_args_is_help=True,
    context_settings={"help_option_names": ["--help", "-h"]},
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Cross-modality knowledge distillation of bird's-eye-view 3D object detectors.",
    epilog="-q, -v and --traceback may stand anywhere on the command line.",
)


def _known_scale(scale: str) -> str:
    """A scale that there is: a typo is said before anything else is looked for.

    Raises:
        ConfigError: there is none.
    """
    from bevkd.config import load_scale

    load_scale(scale)
    return scale


Scale = Annotated[str, typer.Option(help="smoke, sim or paper: a file of config/scales.", callback=_known_scale)]


def known_seed(seed: int) -> int:
    """A seed that every random generator takes; the ends of its range would fill half of a line of help."""
    if not 0 <= seed < 2**32:
        raise typer.BadParameter(f"{seed} is not in the range 0<=x<=4294967295.")
    return seed


Seed = Annotated[int, typer.Option(callback=known_seed, help="Seed of the run.")]
Run = Annotated[str, typer.Option(help="Run id, see `bevkd list runs`.")]
Split = Annotated[str, typer.Option(help="Split of the data set, such as val.")]
Measured = Annotated[Path | None, typer.Option(help="JSON file; default: the one that tables read.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a setting, such as train.steps=100; may be repeated."),
]
RunsRoot = Annotated[Path, typer.Option(help="Folder of all runs.")]
Seeds = Annotated[int, typer.Option(min=0, max=1_000, help="Use only the first so many seeds of each run; 0: all.")]
Workers = Annotated[int, typer.Option(min=1, max=256, help="Processes.")]
Classes = Annotated[
    Path | None, typer.Option(metavar="FILE", help="YAML with own category names: `classes: {my_truck: truck}`.")
]

__all__ = [
    "RUNS",
    "Classes",
    "Output",
    "Overrides",
    "Run",
    "RunsRoot",
    "Scale",
    "Seed",
    "Seeds",
    "Workers",
    "app",
    "content_stamp",
    "note",
    "output",
    "own_categories",
    "say",
    "trained",
]


class Output:
    """How much a command says; set by the global options of every call.

    Attributes:
        quiet: nothing but errors, and what was asked for (`config`, `list`, `profile` ...).
    """

    quiet = False


output = Output()


def say(*lines: object) -> None:
    """What was done, on stdout: unless quiet, and once where several processes work on one command (torchrun)."""
    if not output.quiet and os.environ.get("RANK", "0") == "0":
        for line in lines:
            typer.echo(line)


def note(line: object) -> None:
    """What a reader should know beside the result, on stderr: unless quiet."""
    if not output.quiet and os.environ.get("RANK", "0") == "0":
        typer.echo(f"bevkd: {line}", err=True)


def content_stamp(path: Path) -> tuple[int, int] | None:
    """Changes whenever a file is written anew; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def own_categories(file: Path | None) -> dict[str, str | None]:
    """Own category names of a YAML file, and the classes they count as; none without a file.

    Raises:
        ConfigError: the file is missing or malformed, or names a class that there is not.
    """
    from bevkd.config.classes import read_categories

    return {} if file is None else read_categories(file)


def trained(run: str, scale: str, seed: int, runs: Path) -> Path:
    """Folder of a run; a run that is neither there nor known is an error before torch is imported.

    Raises:
        ConfigError: there is no such run, or no such scale.
        CheckpointError: it has not been trained; the message names the command that does.
    """
    from bevkd.config import run_dir
    from bevkd.config.compose import row_of
    from bevkd.errors import CheckpointError

    folder = run_dir(run, scale, seed, runs)
    if not folder.exists():
        row_of(run, scale)
    if not (folder / "model.pt").exists() and not (folder / "snapshots").exists():
        begun = " to its end" if (folder / "checkpoint.pt").exists() else ""
        raise CheckpointError(
            f"run {run!r} has not been trained{begun} at scale {scale!r} with seed {seed}: no {folder / 'model.pt'}"
            f"{how_to_train(run, scale, seed, runs)}"
        )
    return folder
