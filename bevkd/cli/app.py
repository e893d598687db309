"""The entry point. Exit codes: 0 done, 2 bad usage or config, 3 bad data, 4 interrupted but resumable."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer

from bevkd import __version__, progress
from bevkd.cli import costs, data, evaluation, listing, results, training  # noqa: F401 - they register their commands
from bevkd.cli.border import told
from bevkd.cli.common import app, output
from bevkd.errors import ConfigError

# Options of the application that are understood behind a command, too: people add them to the end of a line.
_ANYWHERE = {"-q", "--quiet", "-v", "--verbose", "--traceback"}
_WITH_FOLDER = "--config-dir"


class _Stderr(logging.StreamHandler[Any]):
    """Writes to whatever stderr is at the time: a progress bar puts lines above itself."""

    @property
    def stream(self) -> Any:
        return sys.stderr

    @stream.setter
    def stream(self, _: Any) -> None:
        """Nothing is kept."""


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    show_version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Say nothing but errors, and what was asked for; no progress bars.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log what is done.")] = False,
    traceback: Annotated[bool, typer.Option("--traceback", help="Show the traceback of an error.")] = False,
    config_dir: Annotated[
        Path | None,
        typer.Option(
            _WITH_FOLDER,
            help="Folder of configuration, whole or laid over the packaged one; default: $BEVKD_CONFIG, ./config.",
        ),
    ] = None,
) -> None:
    if quiet and verbose:
        raise ConfigError("--quiet and --verbose exclude each other")
    logging.basicConfig(
        level=logging.INFO if verbose else logging.ERROR if quiet else logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        handlers=[_Stderr()],
    )
    output.quiet = quiet
    if quiet:
        logging.getLogger("bevkd").setLevel(logging.ERROR)  # also where logging was set up before
        warnings.simplefilter("ignore")
    progress.show_on(None)
    if not quiet and sys.stderr.isatty() and os.environ.get("RANK", "0") == "0":
        from rich.console import Console

        progress.show_on(Console(stderr=True))
    if config_dir is not None:
        from bevkd.config.places import use_config_dir

        context.call_on_close(use_config_dir(config_dir))


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


def hoisted(arguments: list[str]) -> list[str]:
    """The arguments with the options that may stand anywhere in front."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    front: list[str] = []
    rest: list[str] = []
    words = iter(arguments[:end])
    for word in words:
        if word == _WITH_FOLDER:
            front += [word, *islice(words, 1)]
        else:
            (front if word in _ANYWHERE or word.startswith(f"{_WITH_FOLDER}=") else rest).append(word)
    return [*front, *rest, *arguments[end:]]


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code; whatever goes wrong is one line on stderr (`bevkd.cli.border`)."""
    arguments = hoisted(sys.argv[1:] if arguments is None else arguments)
    show_traceback = "--traceback" in arguments or bool(os.environ.get("BEVKD_TRACEBACK"))
    try:
        code = _run(arguments)
    except (Exception, KeyboardInterrupt) as error:
        if show_traceback and not isinstance(error, KeyboardInterrupt) and not _of_usage(error):
            raise
        line, code = told(error)
        print(f"bevkd: {line}", file=sys.stderr)
    except SystemExit as stop:  # a reader of our output has gone
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    finally:
        progress.show_on(None)
        logging.getLogger("bevkd").setLevel(logging.NOTSET)
    return code


def _run(arguments: list[str]) -> int:
    try:
        code = app(args=arguments, prog_name="bevkd", standalone_mode=False)
    except Exception as error:
        if not _of_usage(error) or type(error).__name__ != "NoArgsIsHelpError":
            raise
        getattr(error, "show", str)()  # which is the help
        return ConfigError.exit_code
    if code == 130:  # how typer ends on Ctrl-C
        raise KeyboardInterrupt
    return code if isinstance(code, int) else 0


def _of_usage(error: BaseException) -> bool:
    """Whether the parser of command lines has raised it."""
    return hasattr(error, "format_message") and hasattr(error, "exit_code")
