"""The command line, one module per group of commands."""

from bevkd.cli.app import main

__all__ = ["main"]
