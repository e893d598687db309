"""What may be called what: names become parts of paths and words of commands, and so are nothing else.

Settings are checked by `bevkd.config.bounds`, which has the same patterns; here is what checks those of a command line.
"""

from __future__ import annotations

import re

from bevkd.errors import ConfigError

NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$"
SPLITS = r"^ *[A-Za-z0-9][A-Za-z0-9_.-]{0,99} *(\+ *[A-Za-z0-9][A-Za-z0-9_.-]{0,99} *){0,9}$"
ENDING = r"^[A-Za-z0-9_.-]{0,100}$"  # of a name
PATH = r"^[^\p{Cc}]+$"
PATTERN = r"^[A-Za-z0-9_.*?\[\]!-]{1,200}$"
WANTED = {
    NAME: "a name of letters, digits, `_`, `.` and `-` that starts with a letter or digit, of at most 100 characters",
    rf"{NAME}|^$": "a name of letters, digits, `_`, `.` and `-`, or nothing",
    ENDING: "letters, digits, `_`, `.` and `-`, at most 100",
    SPLITS: "names joined by +, such as train+tune",
    PATH: "the path of a file or folder, without control characters",
    PATTERN: "a name, in which `*`, `?` and `[]` stand for others",
}


def check_name(name: str, what: str, pattern: str = NAME) -> str:
    """The name, if it is one.

    Args:
        name: what should be a name.
        what: what it is of, for the message.
        pattern: which names there may be.

    Raises:
        ConfigError: it is none.
    """
    if re.fullmatch(pattern.removeprefix("^").removesuffix("$"), name) is None:
        raise ConfigError(f"{what} {name!r}: wants {WANTED[pattern]}")
    return name


def check_split(split: str, what: str = "split") -> str:
    """The name of a split, or of several joined by `+`, if it is one.

    Raises:
        ConfigError: it is none.
    """
    return check_name(split, what, SPLITS)
