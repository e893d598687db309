"""Turning lists of JSON values into arrays, and finding the value at fault when that fails."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from bevkd.data.valid import within
from bevkd.errors import DataError
from bevkd.eval.nuscenes.boxes import Floats

BAD_VALUE = (TypeError, ValueError, KeyError, OverflowError)


def matrix(values: Collection[Any], width: int) -> Floats:
    """(N, width) array of N JSON lists; several times faster than `np.array` on nested lists.

    Raises:
        ValueError, TypeError: a value is not a list of `width` numbers.
    """
    if any(length != width for length in set(map(len, values))) or not set(map(type, values)) <= {list, tuple}:
        raise ValueError(f"not {width} numbers")
    if not set(map(type, chain.from_iterable(values))) <= {int, float}:  # NumPy takes words and truth for numbers
        raise TypeError("not a number")
    return np.fromiter(chain.from_iterable(values), np.float64, width * len(values)).reshape(-1, width)


def column(values: Collection[Any], kinds: set[type], dtype: Any) -> Any:
    """(N,) array of JSON values of some types.

    Raises:
        TypeError, OverflowError: a value is of another type, or too large.
    """
    if not set(map(type, values)) <= kinds:
        raise TypeError("of another type")
    return np.fromiter(values, dtype, len(values))


def checked_matrix(
    values: Sequence[Any],
    width: int,
    *,
    file: Path,
    field: str,
    tokens: Sequence[str],
    most: float,
    positive: bool = False,
) -> Floats:
    """`matrix` of finite numbers of at most `most` (and, for sizes, positive).

    Raises:
        DataError: names the token of the first value that is not so.
    """
    try:
        array = matrix(values, width)
        if within(array, most).all() and not (positive and (array <= 0).any()):
            return array
    except BAD_VALUE:
        pass  # the loop below says which value it was

    def bad(value: Any) -> bool:
        one = matrix([value], width)
        return not within(one, most).all() or (positive and bool((one <= 0).any()))

    at = first_bad(values, bad)
    kind = "positive" if positive else "finite"
    raise DataError(
        f"must be {width} {kind} numbers of at most {most:g}, not {values[at]!r:.200}",
        file=file,
        token=tokens[at],
        field=field,
    )


def first_bad(values: Sequence[Any], bad: Callable[[Any], bool]) -> int:
    """Index of the first value that `bad` rejects, or fails on."""
    for i, value in enumerate(values):
        try:
            if bad(value):
                return i
        except BAD_VALUE:
            return i
    raise AssertionError("every value is good")
