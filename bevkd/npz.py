"""Arrays of `.npz` files that others wrote: the right kinds and shapes, no Python objects, no more than there is."""

from __future__ import annotations

import lzma
import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from numpy import frombuffer
from numpy.lib import format as format_

from bevkd import regular
from bevkd.errors import DataError
from bevkd.io import reading

# Kind of an array's numbers -> NumPy's letters for it.
_KINDS = {"float": "f", "integer": "iu", "bool": "b", "text": "U"}
_ARTICLE = {"float": "a", "integer": "an", "bool": "a", "text": "a"}
# What damaged archives and headers of arrays raise.
_BROKEN = (
    *(OSError, ValueError, EOFError, RuntimeError, TypeError, LookupError, SyntaxError, ArithmeticError, MemoryError),
    *(struct.error, tokenize.TokenError, zipfile.BadZipFile, zlib.error, lzma.LZMAError),
)


@dataclass(frozen=True)
class Wanted:
    """An array that a file has to hold.

    Attributes:
        name: of the array.
        kind: of its numbers: float, integer or bool; or text.
        columns: of an array (N, columns); 0: its shape is (N,).
        rows_of: another array that has as many rows; "": any number.
        maps: its shape is (N, H, W).
    """

    name: str
    kind: str
    columns: int = 0
    rows_of: str = ""
    maps: bool = False

    def text(self, array: Any) -> str:
        """Which array is wanted, and which one is there; None: one of Python objects."""
        shape = "(N, H, W)" if self.maps else f"(N, {self.columns})" if self.columns else "(N,)"
        if array is None:
            found = "one of Python objects"
        elif array.dtype.kind in _KINDS[self.kind]:
            found = f"of shape {array.shape}"
        else:
            found = str(array.dtype) + ("" if self._has_shape(array) else f" of shape {array.shape}")
        return f"{self.name} must be {_ARTICLE[self.kind]} {self.kind} array of shape {shape}, not {found}"

    def _has_shape(self, array: Any) -> bool:
        right = array.ndim == (3 if self.maps else 2 if self.columns else 1)
        return right and (not self.columns or array.shape[1] == self.columns)

    def fits(self, array: Any) -> bool:
        """Whether an array is of the kind and has the columns."""
        return array.dtype.kind in _KINDS[self.kind] and self._has_shape(array)


def read_npz(
    path: str | Path, wanted: Sequence[Wanted], token: str | None = None, most: int = regular.TABLE
) -> dict[str, Any]:
    """The arrays of an `.npz` file, of the right kinds and shapes, whatever their values; others are not looked at.

    Args:
        path: the file.
        wanted: arrays that it has to hold.
        token: of what the file belongs to, for messages.
        most: bytes that the file may have.

    Raises:
        DataError: the file is missing or unreadable, or an array is missing or of another shape, kind or length.
    """
    arrays: dict[str, Any] = {}
    with reading(path, token=token), regular.open_regular(path, most) as stream:
        if not zipfile.is_zipfile(stream):
            example = f"np.savez(FILE, {wanted[0].name}=...)"
            raise DataError(f"cannot be read as .npz, which {example} writes", file=path, token=token)
        try:
            with zipfile.ZipFile(stream) as archive:
                held = [name.removesuffix(".npy") for name in archive.namelist()]
                missing = [one.name for one in wanted if one.name not in held]
                if missing:
                    message = f"no such array: {', '.join(missing)}; it holds {', '.join(held) or 'none'}"
                    raise DataError(message, file=path, token=token, field=missing[0])
                for one in wanted:
                    arrays[one.name] = _array(archive, one, path, token)
        except _BROKEN as error:
            raise DataError(f"cannot be read: {error}", file=path, token=token) from error
    for one in wanted:
        array = arrays[one.name]
        if not one.fits(array):
            raise DataError(one.text(array), file=path, token=token, field=one.name)
        if one.rows_of and len(array) != (rows := len(arrays[one.rows_of])):
            more = f", N = {rows} as of {one.rows_of}"
            raise DataError(one.text(array) + more, file=path, token=token, field=one.name)
    return arrays


def _array(archive: zipfile.ZipFile, wanted: Wanted, path: str | Path, token: str | None) -> Any:
    """An array of which the header says no more than there is: a few bytes of an archive can be many gigabytes."""
    name = wanted.name
    entry = next(one for one in archive.infolist() if one.filename.removesuffix(".npy") == name)
    if entry.file_size > regular.DOCUMENT:
        message = f"{name} has {entry.file_size} bytes, more than {regular.DOCUMENT}"
        raise DataError(message, file=path, token=token, field=name)
    content = BytesIO(archive.read(entry))
    try:
        version = format_.read_magic(content)
        read = {(1, 0): format_.read_array_header_1_0, (2, 0): format_.read_array_header_2_0}.get(version)
        if read is None:
            raise ValueError(f"version {version} of the format is not known")
        shape, fortran, dtype = read(content)
        if dtype.hasobject:
            raise DataError(wanted.text(None), file=path, token=token, field=name)
        values = content.read()
        if len(values) != math.prod(shape) * dtype.itemsize:
            raise ValueError(f"{len(values)} bytes do not make an array {shape} of {dtype}")
        return frombuffer(values, dtype=dtype).reshape(shape, order="F" if fortran else "C")
    except _BROKEN as error:
        raise DataError(f"cannot be read: {error}", file=path, token=token, field=name) from error
