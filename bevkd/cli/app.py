"""The entry point. Exit codes: 0 done, 2 bad usage or config, 3 bad data, 4 interrupted but resumable."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from bevkd import __version__
from bevkd.cli import costs, data, evaluation, results, training  # noqa: F401 - they register their commands
from bevkd.cli.common import app
from bevkd.errors import BevkdError, Interrupted


@app.callback()
def _options(
    context: typer.Context,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log what is done.")] = False,
    traceback: Annotated[bool, typer.Option(help="Show the traceback of an error.")] = False,
    config_dir: Annotated[
        Path | None,
        typer.Option(
            "--config-dir",
            help="Folder of configuration, whole or laid over the packaged one; default: $BEVKD_CONFIG, ./config.",
        ),
    ] = None,
) -> None:
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    if config_dir is not None:
        from bevkd.config.places import use_config_dir

        context.call_on_close(use_config_dir(config_dir))


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code; errors of ours are one line on stderr."""
    arguments = sys.argv[1:] if arguments is None else arguments
    show_traceback = "--traceback" in arguments or bool(os.environ.get("BEVKD_TRACEBACK"))
    try:
        app(args=arguments)
    except BevkdError as error:
        if show_traceback:
            raise
        print(f"bevkd: {type(error).__name__}: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("bevkd: interrupted", file=sys.stderr)
        return Interrupted.exit_code
    except SystemExit as stop:  # how typer ends: 0, 2 on bad usage, 130 on Ctrl-C
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        return Interrupted.exit_code if code == 130 else code
    return 0
