"""Work that several processes may come to at once and one of them does for all."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from bevkd.io import check_output_folder, writing

logger = logging.getLogger(__name__)


@contextmanager
def waiting_for(folder: Path) -> Iterator[None]:
    """One process at a time makes a folder; the others wait for it, and say so. The lock of a killed one is free.

    Raises:
        DataError: the system refuses to write beside the folder.
    """
    check_output_folder(folder.parent)
    lock = FileLock(folder.parent / f".{folder.name}.lock")
    with writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            logger.warning("another process is making %s: waiting for it", folder)
            lock.acquire()
    try:
        yield
    finally:
        lock.release()
