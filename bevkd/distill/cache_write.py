"""Growing arrays on disk: rows are appended, and nothing but their counts is held in memory."""

from __future__ import annotations

import os
import zlib
from array import array
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np
import torch
from numpy.typing import NDArray

from bevkd.data.batch import Target
from bevkd.errors import DataError

_BLOCK = 1 << 22  # bytes


class Column:
    """One growing `.npy` file with its offsets; the header is written over when the number of rows is known."""

    def __init__(self, path: Path, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
        self.path, self.dtype, self.shape = path, dtype, shape
        self.counts = array("q")
        self.sum = 0  # of the rows so far
        self.file: IO[bytes] = path.open("wb+")
        self._header(0)
        self.start = self.file.tell()

    def _header(self, rows: int) -> None:
        fields = {"descr": np.lib.format.dtype_to_descr(self.dtype), "fortran_order": False}
        np.lib.format.write_array_header_1_0(self.file, fields | {"shape": (rows, *self.shape)})

    def append(self, values: NDArray[Any], counts: Sequence[int]) -> None:
        """Rows of some more entries, and how many each has."""
        content = np.ascontiguousarray(values, dtype=self.dtype).tobytes()
        self.sum = zlib.crc32(content, self.sum)
        self.file.write(content)
        self.counts.extend(counts)

    def close(self) -> tuple[int, tuple[int, int]]:
        """Finish the file and its offsets; the number of rows, and the sums of both, see `array_sum`."""
        offsets = np.concatenate([[0], np.cumsum(self.counts)]).astype(np.int64)
        self.file.seek(0)
        self._header(int(offsets[-1]))  # NumPy pads headers so that the first axis may grow in place
        if self.file.tell() != self.start:
            raise RuntimeError("the array header changed its length")
        self.file.flush()
        os.fsync(self.file.fileno())
        self.file.close()
        np.save(_part(self.path, ".offsets"), offsets)
        rows = int(offsets[-1])
        return rows, (finished_sum(self.sum, self.dtype, (rows, *self.shape)), array_sum(offsets))


def array_sum(values: NDArray[Any]) -> int:
    """CRC-32 of the content, the type and the shape of an array."""
    total, flat = 0, values.reshape(-1).view(np.uint8)
    for start in range(0, len(flat), _BLOCK):  # no more than a block of a mapped file is held
        total = zlib.crc32(flat[start : start + _BLOCK].data, total)
    return finished_sum(total, values.dtype, values.shape)


def finished_sum(content: int, dtype: np.dtype[Any], shape: tuple[int, ...]) -> int:
    """The same of an array whose content has the sum `content`."""
    return zlib.crc32(f"{dtype.str} {tuple(map(int, shape))}".encode(), content)


class ColumnWriter:
    """The columns of a cache under construction; closes their files whatever happens."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.columns = folder, dict[str, Column]()

    def __enter__(self) -> ColumnWriter:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for column in self.columns.values():
            column.file.close()

    def add(self, name: str, target: Target, keep: Sequence[int], dtype: type | None = None) -> None:
        """Append the rows of some frames of a batch, in ascending order, in float16 (indices int32) unless said.

        Raises:
            DataError: a value that cannot be held.
        """
        chosen = torch.tensor(keep, device=target.frame.device)
        rows = torch.isin(target.frame, chosen)
        values = target.values[rows].detach().cpu().numpy()
        if dtype is None:
            dtype = np.float16 if np.issubdtype(values.dtype, np.floating) else np.int32
        with np.errstate(over="ignore"):
            stored: NDArray[Any] = values.astype(dtype)
        if not np.isfinite(stored).all():
            raise DataError("teacher target is not finite or too large for float16", field=name)
        if name not in self.columns:
            self.columns[name] = Column(self.folder / f"{name}.npy", np.dtype(dtype), stored.shape[1:])
        counts = torch.bincount(target.frame.cpu(), minlength=max(keep) + 1)
        self.columns[name].append(stored, counts[list(keep)].tolist())

    def close(self) -> tuple[dict[str, int], dict[str, tuple[int, int]]]:
        """Finish all columns; their numbers of rows, and the sums of values and offsets."""
        done = {name: column.close() for name, column in self.columns.items()}
        return {name: rows for name, (rows, _) in done.items()}, {name: sums for name, (_, sums) in done.items()}


def _part(path: Path, end: str) -> Path:
    return path.with_name(f"{path.stem}{end}.npy")
