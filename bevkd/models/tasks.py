"""Head tasks: groups of classes that share regression maps."""

from __future__ import annotations

from bevkd.classes import LABEL_INDEX
from bevkd.errors import ConfigError, nearest


def class_order(tasks: tuple[tuple[str, ...], ...]) -> tuple[int, ...]:
    """Class indices of the concatenated heat maps.

    Raises:
        ConfigError: unknown or repeated class name.
    """
    names = [name for task in tasks for name in task]
    for name in names:
        if name not in LABEL_INDEX:
            raise ConfigError(f"head.tasks: unknown class {name!r}{nearest(name, LABEL_INDEX)}")
    if len(set(names)) != len(names):
        raise ConfigError("head.tasks: a class belongs to two tasks")
    return tuple(LABEL_INDEX[name] for name in names)
