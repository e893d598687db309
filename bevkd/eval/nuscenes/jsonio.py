"""Reading large JSON files piece by piece: fast, and in memory that does not grow with the file.

A table or a submission is cut where it looks like the border between two top-level entries, and every piece is parsed
on its own. A wrong cut (a look-alike of the border inside a string, say) leaves a piece that is not valid JSON; such a
piece is joined with what follows and parsed again, so the result is always that of one parse of the whole file.
"""

from __future__ import annotations

import codecs
import gc
import json
import mmap
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path
from typing import Any

from bevkd import regular
from bevkd.errors import DataError
from bevkd.io import WIDE, decode, read_bytes, reading
from bevkd.jsontext import JSONTextError, require_text

_fast_loads: Callable[[bytes], Any]
_fast_dumps: Callable[[Any], bytes]
try:
    from orjson import dumps as _fast_dumps
    from orjson import loads as _fast_loads
except ImportError:  # several times faster, not required
    _fast_loads = json.loads

    def _fast_dumps(value: Any) -> bytes:
        return json.dumps(value).encode()


PIECE_BYTES = 1 << 18  # small enough for the parsed piece to stay in the processor's cache: 1.5 times faster than 1 MiB
# Group 1 ends the piece before a border; the end of the match begins the next piece.
_BETWEEN_RECORDS = re.compile(rb"(\})\s*,\s*(?=\{)")
_BETWEEN_FRAMES = re.compile(rb'[}\[]\s*(\])\s*,\s*(?="(?:[^"\\]|\\.)*"\s*:\s*\[\s*[\]{])')
# The same, as most writers have it: found in no time. A file has the one or the other.
_USUAL_BORDERS = ((b'}], "', b'[], "'), (b'}],"', b'[],"'))
_RESULTS = re.compile(rb'"results"\s*:\s*(?=\{)')
_HEAD = 1 << 16
_SCALAR = re.compile(rb"-?[0-9]|true|false|null|NaN|-?Infinity")  # JSON, if not what is wanted
_NOT_JSON = (ValueError, RecursionError)  # ValueError covers JSONDecodeError and UnicodeDecodeError


def loads(text: bytes) -> Any:
    """Parse JSON, with NaN and Infinity, which Python's writer produces and orjson refuses."""
    try:
        return _fast_loads(text)
    except json.JSONDecodeError:
        # Python's parser takes halves of surrogate pairs, and bytes in five encodings.
        value = json.loads(text.decode("utf-8-sig"))
        if b"\\u" in text:
            require_text(value)
        return value


def dumps(value: Any, *, finite: bool) -> bytes:
    """JSON text. With values that are not finite, which orjson would write as null, as Python writes it."""
    return _fast_dumps(value) if finite else json.dumps(value).encode()


def iter_records(path: Path) -> Iterator[list[dict[str, Any]]]:
    """The records of a table `[{...}, ...]`, a piece at a time.

    Raises:
        DataError: the file is missing, not JSON, or not a list of objects.
    """
    with _mapped(path) as buffer:
        _require_start(buffer, b"[", path)
        start, end = buffer.find(b"[") + 1, buffer.rfind(b"]")
        head = buffer[: max(0, start - 1)].removeprefix(codecs.BOM_UTF8)
        if start == 0 or end < start or head.strip() or buffer[end + 1 :].strip():
            _parse_or_refuse(buffer[:], path, 0)
            raise DataError("a table must be a list of objects", file=path)
        while start < end:
            piece = _next_piece(buffer, start, end, _BETWEEN_RECORDS, b"[%b]")
            if piece is None:
                piece = _parse_or_refuse(b"[" + buffer[start : end + 1], path, start - 1), end
            records, start = piece
            good = list(takewhile(lambda record: isinstance(record, dict), records))
            if good:
                yield good
            if len(good) < len(records):
                raise DataError("a table must be a list of objects", file=path)


def read_results(path: Path, consume: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Hand the `results` of a submission, some frames at a time, to `consume`; return the submission without them.

    Raises:
        DataError: the file is missing, not JSON, has no object `results`, or lists a frame twice.
    """
    with _mapped(path) as buffer:
        if buffer[:2] == b"\x1f\x8b":
            raise DataError("is compressed with gzip; it must be plain JSON", file=path)
        _require_start(buffer, b"{", path)
        start = _find_results(buffer)
        if start is None:
            _parse_or_refuse(buffer[:], path, 0)
            raise DataError("must map sample tokens to lists of boxes", file=path, field="results")
        head = buffer[:start]
        while (piece := _next_piece(buffer, start, len(buffer), _BETWEEN_FRAMES, b"{%b}")) is not None:
            results, end = piece
            _check_twice(buffer[start:end], results, path)
            start = end
            consume(results)
        try:  # only parsing tells where `results` ends and what follows
            text = "{" + buffer[start:].decode()
            results, length = json.JSONDecoder().raw_decode(text)
        except _NOT_JSON as error:
            raise _refusal(error, path, b"{" + buffer[start:], start - 1) from error
        consume(results)
        _check_twice(text[:length].encode(), results, path)
        rest: dict[str, Any] = _parse_or_refuse(head + b"}" + text[length:].encode(), path, 0)
        return rest


def _require_start(buffer: mmap.mmap, sign: bytes, path: Path) -> None:
    """Whether a file begins as it should, before it is searched from end to end."""
    head = buffer[:_HEAD].removeprefix(codecs.BOM_UTF8).lstrip(b" \t\r\n")
    if head[:1] not in (b"[", b"{", b'"') and not _SCALAR.match(head):
        raise DataError(f"is not valid JSON: it begins with {head[:8]!r}, not with {sign.decode()}", file=path)


def _check_twice(text: bytes, results: dict[str, Any], path: Path) -> None:
    """A parser keeps the last of equal keys and says nothing; a piece of a file is looked at as closely as the whole.

    Borders between frames are quickly counted. Only where there are not as many as frames (look-alikes, or a frame
    that was dropped) the keys are listed one by one.
    """
    borders = len(results) - 1
    if borders in (sum(map(text.count, usual)) for usual in _USUAL_BORDERS):
        return
    if borders == sum(1 for _ in _BETWEEN_FRAMES.finditer(text)):
        return
    last: list[list[tuple[str, Any]]] = [[]]  # pairs of the object that is closed last, the outermost

    def keep(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        last[0] = pairs
        return {}

    body = text.decode().strip().rstrip(",").rstrip()
    json.loads(body if body.startswith("{") else f"{{{body}}}", object_pairs_hook=keep)
    seen: set[str] = set()
    for token, _ in last[0]:
        if token in seen:
            raise DataError("sample appears twice", file=path, token=token, field="results")
        seen.add(token)


def _find_results(buffer: mmap.mmap) -> int | None:
    """Where the content of the top-level object `results` begins; a key of that name deeper down does not count."""
    for match in _RESULTS.finditer(buffer):
        begin = match.end() + 1
        try:
            if isinstance(loads(buffer[:begin] + b"}}"), dict):
                return begin
        except _NOT_JSON:
            continue
    return None


def _next_piece(
    buffer: mmap.mmap, start: int, end: int, border: re.Pattern[bytes], frame: bytes
) -> tuple[Any, int] | None:
    """The parsed piece that begins at `start`, and where the next begins; None when no border is left."""
    size = PIECE_BYTES
    while (match := border.search(buffer, start + size, end)) is not None:
        try:
            return loads(frame % buffer[start : match.end(1)]), match.end()
        except _NOT_JSON:
            size *= 8
    return None


def _parse_or_refuse(text: bytes, path: Path, offset: int) -> Any:
    """Parse text that begins at byte `offset` of a file."""
    try:
        return loads(text)
    except _NOT_JSON as error:
        raise _refusal(error, path, text, offset) from error


def _refusal(error: Exception, path: Path, text: bytes, offset: int) -> DataError:
    """What is wrong with the text of a file from byte `offset` on, and where: the same in whatever piece it is met."""
    if isinstance(error, JSONTextError):
        return DataError(f"is not valid JSON: {error}", file=path)
    if isinstance(error, UnicodeDecodeError):
        return DataError(f"is not valid JSON: {error.reason} at byte {offset + error.start}", file=path)
    if isinstance(error, json.JSONDecodeError):
        before = len(error.doc[: error.pos].encode()) + (3 if text.startswith(codecs.BOM_UTF8) else 0)
        return DataError(f"is not valid JSON: {error.msg} at byte {offset + before}", file=path)
    if isinstance(error, RecursionError):
        return DataError("is not valid JSON that can be read: nested too deeply", file=path)
    return DataError("is not valid JSON that can be read: a number is too long", file=path)


def _mapped(path: Path) -> mmap.mmap:
    try:
        with reading(path), regular.open_regular(path, regular.TABLE) as stream:
            if stream.read(2) in WIDE:
                return _held(decode(read_bytes(path), path).encode())
            return mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    except ValueError as error:  # an empty file cannot be mapped
        raise DataError(f"cannot be read: {error}", file=path) from error


def _held(content: bytes) -> mmap.mmap:
    """Bytes in memory, to be looked at as a file is."""
    buffer = mmap.mmap(-1, len(content))
    buffer[:] = content
    return buffer


@contextmanager
def collector_paused() -> Iterator[None]:
    """Without the cyclic garbage collector, which walks millions of parsed dicts and lists and finds no cycle."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
