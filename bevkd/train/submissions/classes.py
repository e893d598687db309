"""What a benchmark knows: which classes, which boxes."""

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


def check_every_box(run: RunConfig, benchmark: str) -> None:
    """Whether a run is evaluated on all boxes, as benchmarks without a protocol for cameras only want it.

    Raises:
        ConfigError: on those that a camera sees.
    """
    if run.data.boxes_in_view:
        raise ConfigError(f"data.boxes_in_view: {benchmark} counts every box, wherever the cameras look")
