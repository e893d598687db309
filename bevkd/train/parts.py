"""Names for parts of a network, as recipes use them.

A part is a module by its path: `head`, `bev`, `fuser`, `head.shared`. An encoder is known by its sensor alone: `camera`
is `encoders.camera`, `camera.backbone` its image backbone. A shell pattern (`*norm*`) is matched with the whole name of
a parameter.
"""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

_ENCODERS = "encoders."


def covers(part: str, name: str) -> bool:
    """Whether a part holds the parameter (or buffer) called `name`."""
    if any(sign in part for sign in "*?["):
        return fnmatchcase(name, part)
    return any(name == whole or name.startswith(f"{whole}.") for whole in (part, f"{_ENCODERS}{part}"))


def known_parts(names: Iterable[str]) -> list[str]:
    """Parts of the first two levels, for messages."""
    out: dict[str, None] = {}
    for name in names:
        path = name.removeprefix(_ENCODERS).split(".")[:-1]
        for depth in (1, 2):
            if len(path) >= depth:
                out[".".join(path[:depth])] = None
    return list(out)
