"""Streaming reader of nuScenes tables: JSON records become NumPy columns, tokens become row numbers.

Records are decoded one after the other and kept only as columns, so that memory stays at a few hundred bytes per
record (the tables of the full data set hold millions).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from bevkd.data.options import Problems
from bevkd.errors import DataError
from bevkd.geometry.rle import check_record
from bevkd.io import WIDE, reading

_CHUNK = 1 << 22  # characters per read
_BATCH = 5_000  # records per column block
_LONGEST_RECORD = 1 << 25

# Kinds of columns: how a JSON value becomes part of a NumPy array.
_VECTORS = {"vec3": (3,), "vec4": (4,)}


@dataclass(frozen=True)
class Table:
    """A table as columns; every column has one entry per record.

    Attributes:
        path: the JSON file.
        columns: field -> array; tokens and links are byte strings, vectors are (N, k) float64.
        problems: what becomes of records that are found to be wrong.
    """

    path: Path
    columns: dict[str, NDArray[Any]]
    problems: Problems = dataclass_field(default_factory=Problems)

    def __getitem__(self, field: str) -> NDArray[Any]:
        return self.columns[field]

    def __len__(self) -> int:
        return len(self.columns["token"])

    def error(self, message: str, row: int, field: str | None = None) -> DataError:
        """The typed error for one record of this table."""
        return DataError(message, file=self.path, token=self["token"][row].decode(), field=field)

    def require(self, good: NDArray[np.bool_], field: str, message: str) -> None:
        """Raise for the first record where `good` (N,) is false, or collect all of them.

        Raises:
            DataError: names file, token and field.
        """
        for row in np.flatnonzero(~np.asarray(good)).tolist():
            self.problems.add(self.error(message, row, field))

    def require_finite(self, *fields: str) -> None:
        """Raise unless every number of the columns is finite."""
        for field in fields:
            finite = np.isfinite(self[field])
            self.require(finite.all(axis=tuple(range(1, finite.ndim))), field, "not a finite number")

    def require_rotation(self, field: str = "rotation") -> None:
        """Raise unless every quaternion is finite and has unit length (to 1 %)."""
        self.require_finite(field)
        norm = np.linalg.norm(self[field], axis=1)
        self.require(np.abs(norm - 1) < 0.01, field, "quaternion does not have unit length")

    def rows_of(self, other: Table, field: str, optional: bool = False) -> NDArray[np.int64]:
        """Row in this table of each link `other[field]`; -1 for empty links when they are `optional`.

        Raises:
            DataError: a link refers to nothing.
        """
        links = other[field]
        if len(self) == 0:
            rows = np.full(len(links), -1)
        else:
            order = np.argsort(self["token"], kind="stable")
            position = np.minimum(np.searchsorted(self["token"], links, sorter=order), len(self) - 1)
            rows = order[position]
            rows = np.where(self["token"][rows] == links, rows, -1)
        bad = rows < 0
        if optional:
            bad &= links != b""
        for row in np.flatnonzero(bad).tolist():
            problem = other.error(f"refers to nothing in {self.path.name}: {links[row].decode()!r}", row, field)
            other.problems.add(problem)
        return rows.astype(np.int64)


def records(path: Path) -> Iterator[dict[str, Any]]:
    """The records of a JSON array of objects, one at a time.

    Raises:
        DataError: missing or unreadable file, or not a JSON array of objects. What is said does not depend on where the
            pieces end in which the file is read.
    """
    try:
        with reading(path, "table"):
            with open(path, "rb") as start:
                encoding = "utf-16" if start.read(2) in WIDE else "utf-8-sig"
            with open(path, encoding=encoding, newline="") as stream:
                yield from _parse(stream, path)
    except UnicodeError as error:
        what = error.reason if isinstance(error, UnicodeDecodeError) else str(error)
        raise DataError(f"table cannot be read as text: {what}", file=path) from None


def _parse(stream: TextIO, path: Path) -> Iterator[dict[str, Any]]:
    decode = json.JSONDecoder().raw_decode
    buffer, at, passed = "", 0, 0  # `passed` characters came before the buffer
    wanted, ended = "[", False
    while True:
        while at < len(buffer) and buffer[at] in " \t\r\n":
            at += 1
        if at < len(buffer):
            sign = buffer[at]
            if wanted == "[":
                if sign != "[":
                    raise DataError("table is not a JSON array of records", file=path)
                wanted, at = "first", at + 1
                continue
            if wanted == "end":
                raise DataError(f"table goes on after its closing bracket, at character {passed + at}", file=path)
            if sign == "]" and wanted in ("first", ","):
                wanted, at = "end", at + 1
                continue
            if wanted == ",":
                if sign != ",":
                    raise DataError(f"table is not valid JSON: no comma at character {passed + at}", file=path)
                wanted, at = "record", at + 1
                continue
            try:
                value, at = decode(buffer, at)
            except json.JSONDecodeError as error:  # most often the record goes on beyond the buffer
                if ended or len(buffer) - at > _LONGEST_RECORD:
                    place = passed + error.pos
                    raise DataError(f"table is not valid JSON: {error.msg} at character {place}", file=path) from None
            except RecursionError:
                raise DataError("table is nested too deeply", file=path) from None
            else:
                # A number may go on beyond the buffer, but it is no record anyway.
                if not isinstance(value, dict):
                    raise DataError("table holds something that is not a record", file=path)
                wanted = ","
                yield value
                continue
        elif ended:
            if wanted == "end":
                return
            raise DataError("table ends before its closing bracket", file=path)
        more = stream.read(_CHUNK)
        ended = not more
        buffer, at, passed = buffer[at:] + more, 0, passed + at


def _column(kind: str, values: list[Any]) -> NDArray[Any]:
    """Values of one field as an array; ValueError or TypeError when one does not fit."""
    if kind in ("token", "link", "text"):
        if not all(type(value) is str for value in values):
            raise TypeError("not a string")
        if kind == "text":
            return np.array(values, dtype=object)
        return np.array([value.encode() for value in values], dtype=np.bytes_)
    if kind == "links":  # a list of tokens, of which nuScenes uses at most one per annotation
        if not all(type(value) is list for value in values):
            raise TypeError("not a list")
        return np.array([value[0].encode() if value else b"" for value in values], dtype=np.bytes_)
    if kind == "int":
        if not all(type(value) is int or value is None for value in values):  # heights of LiDAR files may be null
            raise TypeError("not a whole number")
        return np.array([0 if value is None else value for value in values], dtype=np.int64)
    if kind == "bool":
        if not all(type(value) is bool for value in values):
            raise TypeError("not true or false")
        return np.array(values, dtype=bool)
    if kind == "mask":  # size and text of each; nuImages leaves some out
        out = np.empty(len(values), dtype=object)
        out[:] = [None if value is None else check_record(value) for value in values]
        return out
    if kind == "matrix3":  # 3x3, or an empty list for sensors that are no camera
        if any(len(value) not in (0, 3) or any(len(row) != 3 for row in value) for value in values):
            raise ValueError("not 3x3")
        return np.array([value if len(value) else np.zeros((3, 3)) for value in values], dtype=np.float64).reshape(
            -1, 3, 3
        )
    shape = _VECTORS[kind]
    return np.array([[np.nan if v is None else v for v in value] for value in values], dtype=np.float64).reshape(
        len(values), *shape
    )


def read_table(folder: Path, name: str, fields: dict[str, str], problems: Problems | None = None) -> Table:
    """Read the given fields of `<folder>/<name>.json`; `token` is always read and must be unique.

    Args:
        folder, name: of the table.
        fields: name -> kind.
        problems: what becomes of them; a table that cannot be read raises in any case.

    Raises:
        DataError: missing table or field, wrong type, duplicate token.
    """
    path = folder / f"{name}.json"
    fields = {"token": "token", **fields}
    blocks: dict[str, list[NDArray[Any]]] = {field: [] for field in fields}
    pending: list[dict[str, Any]] = []

    def flush() -> None:
        try:
            columns = {field: _column(kind, [record[field] for record in pending]) for field, kind in fields.items()}
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            raise _culprit(path, pending, fields) from None
        for field, column in columns.items():
            blocks[field].append(column)
        pending.clear()

    try:
        for record in records(path):
            pending.append(record)
            if len(pending) == _BATCH:
                flush()
    except DataError:
        if pending:  # a record before the place where the file is broken may be wrong, too: the first one counts
            flush()
        raise
    if pending or not blocks["token"]:
        flush()
    table = Table(path, {field: np.concatenate(parts) for field, parts in blocks.items()}, problems or Problems())
    tokens = np.sort(table["token"])
    repeated = tokens[1:][tokens[1:] == tokens[:-1]]
    for token in dict.fromkeys(repeated.tolist()):
        table.problems.add(DataError("token is used twice", file=path, token=token.decode(), field="token"))
    return table


def _culprit(path: Path, pending: list[dict[str, Any]], fields: dict[str, str]) -> DataError:
    """The error of the first record of which some field cannot be read, whatever records are looked at together."""
    for record in pending:
        token = record.get("token") if isinstance(record.get("token"), str) else None
        for field, kind in fields.items():
            if field not in record:
                return DataError("record lacks a field", file=path, token=token, field=field)
            try:
                _column(kind, [record[field]])
            except (TypeError, ValueError, AttributeError, OverflowError):
                message = f"field is not of kind {kind}: {record[field]!r:.80}"
                return DataError(message, file=path, token=token, field=field)
    return DataError("fields of some records do not fit together", file=path)
