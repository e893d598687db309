"""What damages files: edits of bytes, words, JSON values, columns and arrays, each a value that can be printed."""

from __future__ import annotations

import copy
import io
import json
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st

SNIPPETS = (
    *(b"\0", b"\xff\xfe", b"\xed\xa0\x80", b"[" * 3000, b"9" * 5000, b"1e999", b"NaN", b"\n", b"}]", b"{", b"<a>"),
    *(b"\xef\xbb\xbf", b"../", b" ", b"-", b":", b'"', b"&a [*a,*a]", b"\x1b[2J"),
)
WORDS = (
    *("nan", "-inf", "1e999", "1e30", "-1e30", "0", "-1", "1_000", "٣", "9" * 5000, "", "x", "-1000", "1.5", "\0"),
    *("\ud800", "1e-320", "2147483648", "true", "[]", "{}", "&a", "*a", "!!python/object:os.system", "../../x"),
    *("$(touch x)", "é"),
)
# JSON that Python's writer does not write.
RAW = ("9" * 5000, "1e999", "NaN", "-Infinity", "[" * 2000 + "]" * 2000, '{"a": 1, "a": 2}', "1E400", "-0.0")
VALUES: tuple[Any, ...] = (
    *(
        None,
        True,
        False,
        0,
        -1,
        1,
        2**31,
        2**63,
        2**70,
        1e30,
        -1e30,
        1e-300,
        0.5,
        "",
        "x",
        "0",
        "\0",
        "\ud800",
        "é" * 40,
    ),
    *([], [[]], {}, {"a": 1}, [1], [1, 2, 3], [0, 0, 0, 0], [None] * 3, ["1", "2", "3"], ["1", "2", "3", "4"]),
    *("../../etc/passwd", "/dev/zero", [1e30, 1e30, 1e30], [1e400] * 4, [True, False, True], "\x1b[2J", 9e15),
)
NUMBERS = (
    float("nan"),
    float("inf"),
    -float("inf"),
    0,
    -1,
    1,
    2,
    1e30,
    -1e30,
    127,
    2**31 - 1,
    2**31,
    2**62,
    0.5,
    1e-300,
)


@dataclass(frozen=True)
class Edit:
    """One edit.

    Attributes:
        kind: what is done; see `apply_*`.
        where: choices along the way, each a number that is taken modulo what there is to choose from.
        value: number of what is put there.
    """

    kind: str
    where: tuple[int, ...]
    value: int


def edits(*kinds: str, most: int = 2) -> st.SearchStrategy[tuple[Edit, ...]]:
    """Some edits of some kinds."""
    number = st.integers(0, 2**16)
    places = st.lists(number, min_size=1, max_size=5).map(tuple)
    one = st.builds(Edit, st.sampled_from(kinds), places, number)
    return st.lists(one, min_size=1, max_size=most).map(tuple)


def mutated(content: bytes, name: str, found: tuple[Edit, ...]) -> bytes:
    """The content of a file after some edits; those that its format does not know are of bytes."""
    for edit in found:
        content = _APPLY.get(edit.kind, _bytes)(content, name, edit)
    return content


def _bytes(content: bytes, _name: str, edit: Edit) -> bytes:
    at = (edit.where[0] * 65_537 + edit.where[-1]) % (len(content) + 1)
    if edit.kind == "flip" and content:
        out = bytearray(content)
        out[at % len(out)] ^= 1 << edit.value % 8
        return bytes(out)
    if edit.kind == "cut":
        return content[:at]
    if edit.kind == "drop":
        return content[:at] + content[at + 1 + edit.value % 64 :]
    if edit.kind == "double":
        return content[:at] + content[max(0, at - 1 - edit.value % 300) :]
    return content[:at] + SNIPPETS[edit.value % len(SNIPPETS)] + content[at:]


def _words(content: bytes, _name: str, edit: Edit) -> bytes:
    parts = re.split(r"([\s,:\[\]{}]+)", content.decode("utf-8", "replace"))
    at = 2 * ((edit.where[0] % ((len(parts) + 1) // 2)) if parts else 0)
    parts[at] = WORDS[edit.value % len(WORDS)]
    return "".join(parts).encode("utf-8", "surrogatepass")


def _lines(content: bytes, _name: str, edit: Edit) -> bytes:
    lines = content.split(b"\n")
    at = edit.where[0] % len(lines)
    other = lines[edit.where[-1] % len(lines)]
    lines[at : at + edit.value % 2] = [other] if edit.value % 3 else []
    return b"\n".join(lines)


def _json(content: bytes, _name: str, edit: Edit) -> bytes:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return _bytes(content, _name, edit)
    raw = "@@raw@@"
    choice = edit.value % (len(VALUES) + len(RAW) + 3)
    new: Any = copy.deepcopy(VALUES[choice]) if choice < len(VALUES) else raw
    holder: Any = [value]
    key: Any = 0
    for step in edit.where:
        inner = holder[key]
        if not isinstance(inner, dict | list) or not inner:
            break
        holder, key = inner, (sorted(inner)[step % len(inner)] if isinstance(inner, dict) else step % len(inner))
    outer = holder is not value and not isinstance(value, dict | list)
    if choice >= len(VALUES) + len(RAW) and not outer:  # without it, twice, or with another
        if choice % 3 == 0:
            del holder[key]
        elif isinstance(holder, list):
            holder.append(copy.deepcopy(holder[key]))
        else:
            holder["another"] = holder[key]
    else:
        holder[key] = new
        if isinstance(value, dict | list) and holder is not value and holder == [new]:
            value = new
    text = json.dumps(value)
    if new is raw:
        text = text.replace(f'"{raw}"', RAW[(choice - len(VALUES)) % len(RAW)])
    return text.encode()


def _parquet(content: bytes, _name: str, edit: Edit) -> bytes:
    try:
        table = pq.read_table(io.BytesIO(content))
        at = edit.where[0] % table.num_columns
        field, values = table.schema.field(at), table.column(at).to_pylist()
        if edit.kind == "column":
            if edit.value % 3 == 0:
                table = table.remove_column(at)
            elif edit.value % 3 == 1:
                table = table.set_column(at, field.name, pa.array([str(v) for v in values], pa.string()))
            else:
                table = table.append_column(field.name, table.column(at))
        elif edit.kind == "row":
            row = edit.where[-1] % len(values)
            rest = [i for i in range(len(values)) if i != row or edit.value % 2]
            table = table.take(pa.array(rest + [row] * (edit.value % 2), pa.int64()))
        else:
            row = edit.where[-1] % len(values)
            values[row] = _changed(values[row], edit)
            table = table.set_column(at, field, pa.array(values, field.type))
        stream = io.BytesIO()
        pq.write_table(table, stream)
        return stream.getvalue()
    except (pa.ArrowException, OSError, ValueError, TypeError, ArithmeticError, LookupError):
        return _bytes(content, _name, edit)


def _changed(value: Any, edit: Edit) -> Any:
    number = NUMBERS[edit.value % len(NUMBERS)]
    if edit.value % 7 == 0:
        return None
    if isinstance(value, list) and value:
        out, i = list(value), edit.where[len(edit.where) // 2] % len(value)
        if edit.value % 5 == 0:
            return out[:i]
        out[i] = type(value[i])(number) if isinstance(value[i], int) and np.isfinite(number) else number
        return out
    if isinstance(value, bool):
        return not value
    if isinstance(value, bytes):
        return _bytes(value, "", Edit("flip", edit.where, edit.value))
    if isinstance(value, str):
        return WORDS[edit.value % len(WORDS)]
    return int(number) if isinstance(value, int) and np.isfinite(number) else number


def _arrays(content: bytes, _name: str, edit: Edit) -> bytes:
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            arrays = {name: archive[name].copy() for name in archive.files}
    except Exception:  # damaged by an edit before
        return _bytes(content, _name, edit)
    name = sorted(arrays)[edit.where[0] % len(arrays)]
    array = arrays[name]
    number = NUMBERS[edit.value % len(NUMBERS)]
    if edit.kind == "column":
        half = array.astype(np.float16) if array.dtype.kind != "U" else array  # text, by an edit before
        shapes = (array[:-1], array.reshape(-1), half, array.astype("U8"), array[None], array[:0])
        arrays[name] = shapes[edit.value % len(shapes)]
        if edit.value % 7 == 0:
            del arrays[name]
    elif array.size:
        with np.errstate(all="ignore"):
            array.reshape(-1)[edit.where[-1] % array.size] = np.asarray(number).astype(array.dtype)
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def _table(content: bytes, name: str, edit: Edit) -> bytes:
    return _arrays(content, name, edit) if name.endswith(".npz") else _parquet(content, name, edit)


_APPLY = {"word": _words, "line": _lines, "json": _json, "column": _table, "row": _table, "cell": _table}
BYTES = ("flip", "cut", "drop", "double", "insert")
TEXT = ("word", "word", "line", *BYTES)
JSON = (*("json",) * 9, "word", *BYTES)
TABLE = ("cell", "cell", "cell", "row", "column", "flip", "cut", "drop")
