"""Temporary files and folders beside what is being written: who is at work, and what a kill has left.

Their names end with `.bevkd.tmp` (or `.bevkd.old`, for what is being replaced). A folder is locked by the process that
fills it; the system frees the lock of a process that ends, however it ends. What nobody holds and nobody has touched
for an hour is removed by the next command that writes there.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from bevkd.errors import ConfigError

SUFFIX, OLD = ".bevkd.tmp", ".bevkd.old"
AGE_S = 3600.0  # younger ones may be of a process on another machine, whose locks are not seen everywhere
_OURS = re.compile(r"\..+\.[a-z0-9_]{8}\.bevkd\.(tmp|old)")
_held: set[Path] = set()  # folders of `alone`, of this process


def new_file(path: Path) -> Path:
    """An empty temporary file beside `path`; the first of a process in a folder removes what lies there since long."""
    _sweep_once(path.parent, os.getpid())
    fd, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=SUFFIX, dir=path.parent)
    os.close(fd)
    return Path(name)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """An empty temporary folder beside `path`, for one process at a time; it is gone afterwards, unless renamed.

    Raises:
        ConfigError: another process is writing `path`.
        OSError: the system refuses.
    """
    with _turn(path.parent):
        for sibling in _siblings(path.parent, path.name):
            if _is_of(path, sibling) and sibling not in _held and _is_locked(sibling):
                raise ConfigError(f"another process is writing {path}")
        sweep(path.parent, path.name)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=SUFFIX, dir=path.parent))
        lock = os.open(temporary, os.O_RDONLY)
        with suppress(OSError):  # some file systems know no locks: there the age alone counts
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        os.close(lock)


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Keep other processes from writing the folder `path`, before this one comes to write it itself.

    Raises:
        ConfigError: another process is writing it.
        OSError: the system refuses.
    """
    with new_folder(path) as held:
        _held.add(held)
        try:
            yield
        finally:
            _held.discard(held)


def sweep(folder: Path, name: str = "", age_s: float = AGE_S) -> None:
    """Remove what killed processes have left in a folder: nobody holds it, and it is older than `age_s`.

    Args:
        folder: to look into.
        name: of a file or folder there, whose temporary ones are also known by other ends of their names, which older
            versions gave them.
        age_s: seconds.
    """
    for path in _siblings(folder, name):
        with suppress(OSError):
            if time.time() - path.lstat().st_mtime < age_s:
                continue
            if path.is_dir() and not path.is_symlink():
                if not _is_locked(path):
                    shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink()


@cache
def _sweep_once(folder: Path, _process: int) -> None:
    sweep(folder)


def _siblings(folder: Path, name: str) -> list[Path]:
    def is_temporary(found: str) -> bool:
        return _OURS.fullmatch(found) is not None or (name != "" and _is_older(found, name))

    try:
        return [folder / found for found in sorted(os.listdir(folder)) if is_temporary(found)]
    except OSError:
        return []


def _is_older(found: str, name: str) -> bool:
    """Whether it is called as older versions called what they wrote beside `name`."""
    middle = found.removeprefix(f".{name}").removesuffix(".tmp").removesuffix(".old")
    return found.startswith(f".{name}.") and found.endswith((".tmp", ".old")) and len(middle) in (0, 9)


def _is_of(path: Path, sibling: Path) -> bool:
    return re.fullmatch(rf"\.{re.escape(path.name)}\.[a-z0-9_]{{8}}\.bevkd\.tmp", sibling.name) is not None


def _is_locked(folder: Path) -> bool:
    """Whether a living process holds a temporary folder, as far as the file system can tell."""
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(fd)
    return False


@contextmanager
def _turn(folder: Path) -> Iterator[None]:
    """One process at a time looks around in a folder and makes its own temporary one."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
