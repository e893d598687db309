"""CSV files of results as pandas frames: text as it stands, numbers with four digits, empty where there is none."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bevkd.errors import DataError


class ColumnsError(DataError):
    """A CSV file with other columns than it should have: it was made for something else."""


def to_csv(frame: pd.DataFrame, digits: int = 4) -> str:
    """A frame as CSV; only floating-point columns are rounded."""
    return frame.to_csv(index=False, float_format=f"%.{digits}f", lineterminator="\n")


def read_text(path: Path) -> pd.DataFrame:
    """All columns of a CSV file as text; what is empty is an empty string.

    Raises:
        FileNotFoundError: there is no such file.
        DataError: it is not CSV.
    """
    try:
        return pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8")
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise DataError(f"cannot be read as CSV: {error}", file=path) from error


def read_csv(
    path: Path,
    what: str,
    columns: Sequence[str],
    numbers: Sequence[str],
    counts: Sequence[str],
    newer: Collection[str] = (),
) -> pd.DataFrame:
    """A CSV file with exactly these columns.

    Args:
        path: the file.
        what: its content, for error messages.
        columns: names in order.
        numbers: those that hold floating-point numbers, NaN where empty.
        counts: those that hold integers.
        newer: those that an older file may lack; they are empty then.

    Raises:
        ColumnsError: other columns.
        DataError: missing, or something that is not a number.
    """
    try:
        frame = read_text(path)
    except FileNotFoundError:
        raise DataError(f"{what} has not been made", file=path) from None
    for place, name in enumerate(columns):
        if name in newer and name not in frame.columns:
            frame.insert(min(place, len(frame.columns)), name, "")
    if list(frame.columns) != list(columns):
        raise ColumnsError(f"columns are not those of {what}", file=path)
    read: dict[str, Any] = {}
    for name in (*numbers, *counts):
        try:  # by Python itself: tables have few rows, and pandas takes longer to begin with a column
            texts = frame[name].tolist()
            if name in counts:
                read[name] = np.array([int(text) for text in texts], dtype=np.int64)
            else:
                read[name] = np.array([float(text or "nan") for text in texts], dtype=np.float64)
        except (ValueError, TypeError) as error:
            raise DataError(f"not a number: {error}", file=path, field=name) from None
    return frame.assign(**read)
