"""Streaming reader of nuScenes tables: JSON records become NumPy columns, tokens become row numbers.

Records are decoded one after the other and kept only as columns, so that memory stays at a few hundred bytes per
record (the tables of the full data set hold millions).
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from bevkd import regular
from bevkd.data import valid
from bevkd.data.options import Problems
from bevkd.errors import DataError
from bevkd.geometry.rle import check_record
from bevkd.io import WIDE, reading
from bevkd.jsontext import distinct, is_text

_CHUNK = 1 << 22  # characters per read
_BATCH = 5_000  # records per column block
_LONGEST_RECORD = 1 << 25
_BLANK = re.compile(r"[ \t\r\n]*")

# Kinds of columns: how a JSON value becomes part of a NumPy array.
_VECTORS = {"vec3": 3, "vec4": 4}
# Least, most, and whether null, which is 0, may stand for none: heights of LiDAR files are left out.
_WHOLE = {"time": (0, valid.TIME_US, False), "count": (0, valid.POINTS, False), "side": (0, valid.SIDE_PX, True)}
_NO_MATRIX = [[0.0] * 3] * 3


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

    def require_within(self, field: str, most: float) -> None:
        """Raise unless every number of a column is finite and at most so large."""
        finite = np.isfinite(self[field])
        self.require(finite.all(axis=tuple(range(1, finite.ndim))), field, "not a finite number")
        near = valid.within(np.nan_to_num(self[field], posinf=0.0, neginf=0.0), most)
        self.require(near, field, f"a number beyond {most:g}: another unit?")

    def require_rotation(self, field: str = "rotation") -> None:
        """Raise unless every quaternion is finite and has unit length (to 1 %)."""
        self.require_within(field, valid.GLOBAL_M)
        odd = np.isfinite(self[field]).all(axis=1) & ~valid.good_quaternions(self[field])
        self.require(~odd, field, "quaternion does not have unit length")

    def require_sizes(self, field: str = "size") -> None:
        """Raise unless every size is positive and no larger than any object."""
        self.require_within(field, valid.SIZE_M)
        self.require(np.all(self[field] > 0, axis=1), field, "box sizes must be positive")

    def require_cameras(self, camera: NDArray[np.bool_], field: str = "camera_intrinsic") -> None:
        """Raise unless every matrix (of those that are of a camera) is that of a pinhole camera."""
        self.require_within(field, valid.FOCAL_PX[1])
        good = ~camera | valid.good_intrinsics(np.nan_to_num(self[field]))
        self.require(good, field, "a camera needs an invertible 3x3 matrix of focal lengths and a principal point")

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
            if len(self) == 0:  # there is no row to go on with
                raise problem
            other.problems.add(problem)
        return rows.astype(np.int64)


def records(path: Path) -> Iterator[dict[str, Any]]:
    """The records of a JSON array of objects, one at a time.

    Raises:
        DataError: missing or unreadable file, or not a JSON array of objects. What is said does not depend on where the
            pieces end in which the file is read.
    """
    try:
        with reading(path, "table"), regular.open_regular(path, regular.TABLE) as start:
            encoding = "utf-16" if start.read(2) in WIDE else "utf-8-sig"
            start.seek(0)
            with io.TextIOWrapper(start, encoding=encoding, newline="") as stream:
                yield from _parse(stream, path)
    except UnicodeError as error:
        what = error.reason if isinstance(error, UnicodeDecodeError) else str(error)
        raise DataError(f"table cannot be read as text: {what}", file=path) from None


def _parse(stream: TextIO, path: Path) -> Iterator[dict[str, Any]]:
    decode = json.JSONDecoder(object_pairs_hook=distinct).raw_decode
    buffer, at, passed = "", 0, 0  # `passed` characters came before the buffer
    wanted, ended = "[", False
    while True:
        blank = _BLANK.match(buffer, at)  # matches nothing, too
        at = blank.end() if blank else at
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
            except ValueError as error:  # a key twice, or a number of thousands of digits
                raise DataError(
                    f"table is not valid JSON: {error}, before character {passed + len(buffer)}", file=path
                ) from None
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
        if not all(type(value) is str and is_text(value) for value in values):
            raise TypeError("not a string")
        if kind == "text":
            return np.array(values, dtype=object)
        if kind == "token" and not all(values):
            raise ValueError("empty")
        return np.array([value.encode() for value in values], dtype=np.bytes_)
    if kind == "links":  # a list of tokens, of which nuScenes uses at most one per annotation
        if not all(type(value) is list and all(type(one) is str and is_text(one) for one in value) for value in values):
            raise TypeError("not a list of strings")
        return np.array([value[0].encode() if value else b"" for value in values], dtype=np.bytes_)
    if kind in _WHOLE:
        low, high, empty = _WHOLE[kind]
        if not all(type(value) is int or (value is None and empty) for value in values):
            raise TypeError("not a whole number")
        column = np.array([0 if value is None else value for value in values], dtype=np.int64)
        if len(column) and (column.min() < low or column.max() > high):
            raise ValueError(f"negative, or more than {high}")
        return column
    if kind == "bool":
        if not all(type(value) is bool for value in values):
            raise TypeError("not true or false")
        return np.array(values, dtype=bool)
    if kind == "mask":  # size and text of each; nuImages leaves some out
        out = np.empty(len(values), dtype=object)
        out[:] = [None if value is None else check_record(value) for value in values]
        return out
    if kind == "matrix3":  # 3x3, or an empty list for sensors that are no camera
        if any(type(value) is not list or len(value) not in (0, 3) for value in values):
            raise ValueError("not 3x3")
        rows = [row for value in values for row in (value or _NO_MATRIX)]
        return _numbers(rows, 3).reshape(-1, 3, 3)
    return _numbers(values, _VECTORS[kind])


def _numbers(rows: list[Any], width: int) -> NDArray[np.float64]:
    """Lists of numbers as an array (N, width), null as NaN; ValueError or TypeError when one is something else."""
    if any(type(row) is not list or len(row) != width for row in rows):
        raise ValueError(f"not {width} numbers")
    if not {type(value) for row in rows for value in row} <= {int, float, type(None)}:
        raise TypeError("not a number")
    flat = [np.nan if value is None else value for row in rows for value in row]
    return np.array(flat, dtype=np.float64).reshape(len(rows), width)


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
        token = record.get("token")
        if not isinstance(token, str) or not is_text(token):  # nothing that can be printed
            token = None
        for field, kind in fields.items():
            if field not in record:
                return DataError("record lacks a field", file=path, token=token, field=field)
            try:
                _column(kind, [record[field]])
            except (TypeError, ValueError, AttributeError, OverflowError) as error:
                message = f"field is not of kind {kind}: {record[field]!r:.80}: {error}"
                return DataError(message, file=path, token=token, field=field)
    return DataError("fields of some records do not fit together", file=path)
