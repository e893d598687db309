"""JSON of unknown origin: one value and nothing behind it, of bounded depth and digits, in text that is Unicode.

Python's parser takes more than that: a key twice, numbers of any length, halves of surrogate pairs, bytes in one of
five encodings. What it takes beyond JSON on purpose are NaN and Infinity, which older versions and nuScenes' own tools
write.
"""

from __future__ import annotations

import json
import re
from typing import Any

MOST_DEPTH = 64
MOST_DIGITS = 400  # of one number: more than the longest double, 1.8e308, has when it is written out
_LONG = re.compile(
    rf"\d{{{MOST_DIGITS + 1}}}", re.ASCII
)  # in a string there may be as many: only then numbers are looked at
_ESCAPES = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")  # what may be NUL or half of a pair


class JSONTextError(ValueError):
    """What is wrong with a text."""


def parse(text: str) -> Any:
    """The value of a JSON text.

    Raises:
        JSONTextError: it is not JSON, has a key twice, is nested too deeply, or holds a number that is too long, or
            text that is no Unicode or holds NUL.
    """
    try:
        hooks: dict[str, Any] = {"parse_int": whole_number, "parse_float": decimal_number} if _LONG.search(text) else {}
        value = json.loads(text, object_pairs_hook=distinct, **hooks)
    except RecursionError:
        raise JSONTextError("nested too deeply") from None
    except json.JSONDecodeError as error:
        raise JSONTextError(str(error)) from None
    require_shallow(value)
    if _ESCAPES.search(text):
        require_text(value)
    return value


def distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of which no key is given twice: the first would be lost in silence."""
    out = dict(pairs)
    if len(out) < len(pairs):
        names = [name for name, _ in pairs]
        raise JSONTextError(f"key {next(n for n in names if names.count(n) > 1)!r} is given twice")
    return out


def whole_number(text: str) -> int:
    """An integer of at most `MOST_DIGITS` digits."""
    return int(_bounded(text))


def decimal_number(text: str) -> float:
    """A number of at most `MOST_DIGITS` digits."""
    return float(_bounded(text))


def _bounded(text: str) -> str:
    if _LONG.search(text):
        raise JSONTextError(f"a number has more than {MOST_DIGITS} digits")
    return text


def require_shallow(value: Any) -> None:
    """Raise where lists and objects are nested more than `MOST_DEPTH` deep; level by level, for speed."""
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(MOST_DEPTH):
        if not level:
            return
        members = (one.values() if isinstance(one, dict) else one for one in level)
        level = [member for held in members for member in held if isinstance(member, dict | list)]
    raise JSONTextError("nested too deeply")


def require_text(value: Any) -> None:
    """Raise where a string, or a key, is no Unicode or holds NUL."""
    if isinstance(value, str):
        if not is_text(value):
            raise JSONTextError(f"{value[:40]!r} is no text: it holds NUL or half of a surrogate pair")
    elif isinstance(value, dict | list):
        for member in value:
            require_text(member)
            if isinstance(value, dict):
                require_text(value[member])


def is_text(value: str) -> bool:
    """Whether a string can be written as UTF-8 and holds no NUL, at which other tools end it."""
    return "\0" not in value and (value.isascii() or not any("\ud800" <= sign <= "\udfff" for sign in value))
