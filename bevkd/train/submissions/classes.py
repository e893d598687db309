"""Which classes a benchmark knows."""

from __future__ import annotations

from collections.abc import Collection

from bevkd.config import RunConfig
from bevkd.errors import ConfigError


def check_classes(run: RunConfig, known: Collection[str], benchmark: str, *, some: bool = False) -> None:
    """Whether a benchmark knows the classes that a network finds; with `some`, whether it knows any of them.

    Raises:
        ConfigError: it does not; the message names the classes.
    """
    found = [name for task in run.model.head.tasks for name in task]
    other = [name for name in found if name not in known]
    if other and (not some or len(other) == len(found)):
        names = ", ".join(repr(name) for name in other)
        verb = "is no class" if len(other) == 1 else "are no classes"
        raise ConfigError(f"model.head.tasks: {names} {verb} of {benchmark}; known: {', '.join(known)}")
