"""Opening Parquet of unknown origin: regular files, columns of the wanted kinds, and errors that name the file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from bevkd import regular
from bevkd.errors import DataError
from bevkd.io import reading

MOST_ROWS = 1 << 26  # run lengths hold any number of equal values in a few bytes
# What Arrow raises for files that are not what they say; its own errors are of several kinds, some of them Python's.
BROKEN = (pa.ArrowException, OSError, ValueError, TypeError, LookupError, OverflowError)


@contextmanager
def broken(path: Path, what: str = "cannot be read as Parquet", token: str | None = None) -> Iterator[None]:
    """Around code that decodes a file.

    Raises:
        DataError: it is broken.
    """
    try:
        yield
    except BROKEN as error:
        text = str(error).splitlines()
        raise DataError(f"{what}: {text[0] if text else type(error).__name__}", file=path, token=token) from error


def open_parquet(path: Path, missing: str = "file") -> pq.ParquetFile:
    """A file, of which the footer is read.

    Args:
        path: the file.
        missing: what a file that is not there is called.

    Raises:
        DataError: it is missing, broken, or has more rows than any table of a data set.
    """
    with reading(path, missing):
        regular.require_regular(path)
    with broken(path):
        file = pq.ParquetFile(path)
        # Footers of row groups and columns are not looked at: Arrow ends the process where such a one is damaged,
        # unless it is met by its own reading.
        if not 0 <= file.metadata.num_rows <= MOST_ROWS:
            raise ValueError(f"{file.metadata.num_rows} rows")
        return file


def read_parquet(path: Path, schema: pa.Schema, columns: Iterable[str] | None = None, **options: Any) -> pa.Table:
    """Some columns of a file.

    Args:
        path: the file.
        schema: which columns there are, of which types.
        columns: names of those to read; all of the schema by default.
        options: of `pyarrow.parquet.read_table`.

    Raises:
        DataError: the file is missing or broken, or a column is missing or of another type.
    """
    names = list(columns) if columns is not None else schema.names
    check_schema(open_parquet(path, "part of the index").schema_arrow, schema, names, path)
    with broken(path):
        table = pq.read_table(path, columns=names, **options)
        table.validate(full=True)
        return table


def check_schema(found: pa.Schema, wanted: pa.Schema, names: Iterable[str], path: Path) -> None:
    """Check that columns are there, of the wanted types.

    Raises:
        DataError: one is not.
    """
    for name in names:
        at = found.get_all_field_indices(name)
        if len(at) != 1:
            what = "column is missing; convert again" if not at else "column is there twice"
            raise DataError(what, file=path, field=name)
        kind = found.field(at[0]).type
        if kind != wanted.field(name).type:
            raise DataError(f"column is of type {kind}, not {wanted.field(name).type}", file=path, field=name)


def require_no_null(table: pa.Table, path: Path, names: Iterable[str]) -> None:
    """Check that no value is missing, nor a member of a list.

    Raises:
        DataError: one is.
    """
    for name in names:
        column = table[name].combine_chunks()
        inside = pa.types.is_nested(column.type) and column.flatten().null_count
        if column.null_count or inside or (pa.types.is_dictionary(column.type) and column.dictionary.null_count):
            raise DataError("a value is missing", file=path, field=name)
