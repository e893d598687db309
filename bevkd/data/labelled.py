"""The published lists of labelled keyframes: `labelled.json` maps subset numbers to frame tokens."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bevkd.errors import DataError
from bevkd.io import read_json


def read_labelled(path: Path, tokens: Sequence[str]) -> tuple[list[int] | None, list[list[int]] | None]:
    """Labelled subsets and, for each frame, those that hold it; None and None where the data set has no such file.

    Raises:
        DataError: the file is malformed or names a frame that does not exist.
    """
    if not path.exists():
        return None, None
    content = read_json(path)
    if not isinstance(content, dict) or not all(k.isdecimal() and isinstance(v, list) for k, v in content.items()):
        raise DataError("must map subset numbers to lists of sample tokens", file=path)
    position = {token: i for i, token in enumerate(tokens)}
    out: list[list[int]] = [[] for _ in tokens]
    for key in sorted(content, key=int):
        for token in content[key]:
            if token not in position:
                raise DataError("labelled frame does not exist", file=path, token=str(token), field=key)
            out[position[token]].append(int(key))
    return sorted(int(key) for key in content), out
