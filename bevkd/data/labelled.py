"""Whose labels may be used: `labelled.json` maps subset numbers to frame tokens, the published lists of keyframes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bevkd.data.options import Problems
from bevkd.errors import DataError
from bevkd.io import read_json

_ABSENT = "labelled frame does not exist (`convert --partial` passes over it)"
_DIGITS = 9  # of the number of a subset
Subsets = list[list[int] | None]  # of each frame: those that hold it; none for a frame that has no labels


def read_labelled(
    path: Path, tokens: Sequence[str], problems: Problems | None = None, *, absent: bool = False
) -> tuple[list[int] | None, Subsets | None]:
    """Labelled subsets and, for each frame, those that hold it; None and None where the data set has no such file.

    Args:
        path: the file.
        tokens: of all frames.
        problems: what becomes of them.
        absent: a list may name frames that are not there.

    Raises:
        DataError: the file is malformed or names a frame that does not exist.
    """
    problems = problems or Problems()
    if not path.exists() and not path.is_symlink():
        return None, None
    content: dict[str, list[Any]] | None = None
    with problems.here():
        found = read_json(path)
        if not isinstance(found, dict) or not all(_is_number(k) and isinstance(v, list) for k, v in found.items()):
            raise DataError("must map subset numbers to lists of sample tokens", file=path)
        content = found
    if content is None:
        return None, None
    position = {token: i for i, token in enumerate(tokens)}
    out: Subsets = [[] for _ in tokens]
    for key in sorted(content, key=int):
        for token in content[key]:
            at = position.get(token, -1) if isinstance(token, str) else -1
            held = out[at] if at >= 0 else None
            if held is not None:
                held.append(int(key))
            elif not absent:
                problems.add(DataError(_ABSENT, file=path, token=str(token), field=key))
    return sorted(int(key) for key in content), out


def _is_number(key: str) -> bool:
    return key.isascii() and key.isdigit() and len(key) <= _DIGITS


def without_labels(
    subsets: list[int] | None, labelled: Subsets | None, blank: Sequence[bool]
) -> tuple[list[int], Subsets]:
    """The lists without frames that have no labels at all; where there are none, subset 0 holds all that have some."""
    if subsets is None or labelled is None:
        subsets, labelled = [0], [[0] for _ in blank]
    return subsets, [None if empty else held for held, empty in zip(labelled, blank, strict=True)]
