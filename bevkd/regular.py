"""Opening what others give: regular files of at most a certain size, and nothing that hangs or never ends.

A pipe waits for a writer, a device goes on for ever, a sparse file is larger than any memory. What is refused is an
`OSError`, which `bevkd.io.reading` turns into an error of the data.
"""

from __future__ import annotations

import os
import stat
from io import BufferedReader
from pathlib import Path

# The most bytes of a file of a kind; each several times what the formats have.
TEXT = 1 << 28  # labels, calibrations, lists, settings
DOCUMENT = 1 << 30  # JSON that is held as a whole, point clouds
IMAGE = 1 << 28
TABLE = 1 << 34  # read a piece at a time, or mapped into memory

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


def open_regular(path: str | Path, most: int = DOCUMENT) -> BufferedReader:
    """A regular file, or a link to one, opened for reading.

    Args:
        path: the file.
        most: bytes that it may have.

    Raises:
        OSError: it is missing, something else than a regular file, larger, or the system refuses.
    """
    stream = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")  # a pipe is opened at once
    try:
        _check(os.fstat(stream.fileno()), most)
    except BaseException:
        stream.close()
        raise
    return stream


def require_regular(path: str | Path, most: int = TABLE) -> None:
    """Check a file that a library opens by itself; arguments and errors as of `open_regular`."""
    _check(os.stat(path), most)


def _check(found: os.stat_result, most: int) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise OSError(f"not a regular file but {_KINDS.get(stat.S_IFMT(found.st_mode), 'something else')}")
    if found.st_size > most:
        raise OSError(f"has {found.st_size} bytes, more than the {most} that such a file may have")
