"""Atomic writers and the few readers shared by every stage: a file is either whole or absent.

What the system says of a file (missing, not allowed, a link to itself, no space left ...) becomes a `DataError` with
the path, here and nowhere else: `reading` and `writing` are for those who open files themselves.
"""

from __future__ import annotations

import codecs
import errno
import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from bevkd import jsontext, regular
from bevkd.errors import ConfigError, DataError
from bevkd.temporary import alone, new_file, new_folder

WIDE = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)  # how text begins whose mark says that it is not UTF-8


@contextmanager
def reading(
    path: str | Path, what: str = "file", *, token: str | None = None, field: str | None = None
) -> Iterator[None]:
    """Around code that reads `path`: what the system refuses is an error of the data.

    Args:
        path: for the message.
        what: what a file that is not there is called.
        token: the sample (or record) that it belongs to.
        field: of the record.

    Raises:
        DataError: the file is missing, or cannot be read.
    """
    try:
        yield
    except FileNotFoundError:
        raise DataError(f"{what} is missing", file=path, token=token, field=field) from None
    except OSError as error:
        raise DataError(f"cannot be read: {reason(error)}", file=path, token=token, field=field) from error


@contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """Around code that writes `path`.

    Raises:
        DataError: the system refuses: not allowed, no space left, a folder where a file should be.
    """
    try:
        yield
    except OSError as error:
        raise DataError(f"cannot be written: {reason(error)}", file=path) from error


def reason(error: OSError) -> str:
    """What the system says, without the path, which may be that of a temporary file."""
    return f"[Errno {error.errno}] {error.strerror}" if error.errno is not None else str(error)


@contextmanager
def atomic_path(path: str | Path, *, flush: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success flush it to disk and rename it over `path`.

    A device or a pipe (`/dev/null`, `/dev/stdout`) is not replaced but written to, and so is what a link leads to.
    Without `flush` a crash of the whole machine may leave a part of the file.

    Raises:
        DataError: the system refuses.
    """
    with writing(path), _atomic_path(Path(path), flush) as temporary:
        yield temporary


@contextmanager
def _atomic_path(path: Path, flush: bool) -> Iterator[Path]:
    if path.exists() and not path.is_file() and not path.is_dir():
        with tempfile.TemporaryDirectory() as folder:
            yield (written := Path(folder) / path.name)
            path.write_bytes(written.read_bytes())
        return
    path = _target(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():  # before the work
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    temporary = new_file(path)
    try:
        yield temporary
        if flush:
            _flush(temporary)
        temporary.chmod(0o666 & ~_umask())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: str | Path, *, replace: bool = True, flush: bool = True) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; on success flush its files and put it in the place of `path`.

    A folder that was there is replaced; a link to a folder stays, and its target is. One process at a time may write
    the same folder.

    Args:
        path: the folder.
        replace: False: only an empty folder is.
        flush: False: a crash of the whole machine may leave files that are not whole.

    Raises:
        ConfigError: another process is writing the folder.
        DataError: the system refuses.
    """
    with writing(path), _atomic_folder(Path(path), replace, flush) as temporary:
        yield temporary


@contextmanager
def _atomic_folder(path: Path, replace: bool, flush: bool) -> Iterator[Path]:
    path = _folder_target(path)
    with new_folder(path) as temporary:
        if not replace:
            _check_empty(path)
        yield temporary
        for file in temporary.rglob("*") if flush else ():
            if file.is_file():
                _flush(file)
        temporary.chmod(0o777 & ~_umask())
        if not replace:
            os.replace(temporary, path)
            return
        old = temporary.with_suffix(".old")
        # A folder cannot be renamed over one that holds files.
        with suppress(FileNotFoundError):
            os.replace(path, old)
        try:
            os.replace(temporary, path)
        except BaseException:
            if old.exists() and not path.exists():
                os.replace(old, path)
            raise
        shutil.rmtree(old, ignore_errors=True)


@contextmanager
def only_writer(path: str | Path) -> Iterator[None]:
    """Around the work for an `atomic_folder`: that it can be written, and that nobody else does, is known before.

    Folders above it that were made for it are gone again when the work fails.

    Raises:
        ConfigError: another process is writing the folder.
        DataError: the system refuses.
    """
    with writing(path):
        made = [above for above in Path(os.path.realpath(path)).parents if not above.exists()]
    try:
        with ExitStack() as stack:
            with writing(path):
                stack.enter_context(alone(_folder_target(Path(path))))
                _try_to_write(Path(os.path.realpath(path)).parent)
            yield
    except BaseException:
        with suppress(OSError):  # the first that holds something stays, and those above it
            for above in made:
                above.rmdir()
        raise


def check_output(path: str | Path) -> None:
    """Whether a file can be written, found out before the work for it; it changes nothing.

    Raises:
        DataError: it cannot: not allowed, no space left, a file where a folder is needed or the other way round.
    """
    path = Path(path)
    with writing(path):
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not path.exists() or path.is_file():  # devices are not looked at
            _try_to_write(_target(path).parent)


def check_output_folder(folder: str | Path) -> None:
    """The same of files in a folder, which need not be there."""
    with writing(folder):
        _try_to_write(_target(Path(folder)))


def _try_to_write(folder: Path) -> None:
    """Write a block into a folder, or, where there is none yet, into the one that it will be made in."""
    while not folder.exists():
        folder = _target(folder).parent
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
    with tempfile.TemporaryFile(dir=folder) as stream:
        stream.write(bytes(4096))
        stream.flush()
        os.fsync(stream.fileno())


def _target(path: Path) -> Path:
    """Where a link leads, so that it stays and its target is written."""
    target = Path(os.path.realpath(path))
    if target.is_symlink():  # one that leads to itself
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
    return target


def _folder_target(path: Path) -> Path:
    """The same for a folder that is put in the place of another; the one above is made.

    Raises:
        OSError: the place cannot be taken by a folder.
    """
    target = Path(os.path.realpath(path))
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
    if target.is_mount():
        raise OSError(errno.EBUSY, "a mount point cannot be replaced: name a folder in it", str(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    return target


def _check_empty(path: Path) -> None:
    if path.exists() and any(path.iterdir()):
        raise ConfigError(f"{path} exists and is not an empty folder")


def _flush(file: Path) -> None:
    with open(file, "rb") as stream:
        os.fsync(stream.fileno())


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write `data` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 `text` atomically."""
    write_bytes(path, text.encode("utf-8"))


def write_if_other(path: Path, text: str) -> None:
    """Write UTF-8 `text` atomically, unless that is what the file holds: its time then stays."""
    if not path.exists() or read_bytes(path) != text.encode("utf-8"):
        write_text(path, text)


def json_text(value: Any, indent: int | None = None) -> str:
    """`value` as JSON that every parser reads: numbers that are not finite, for which JSON has no word, are null."""
    try:
        return json.dumps(value, indent=indent, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(value), indent=indent, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(held) for key, held in value.items()}
    return [_finite(held) for held in value] if isinstance(value, list | tuple) else value


def write_json(path: str | Path, value: Any, indent: int | None = 1) -> None:
    """Write `value` as strict JSON atomically, see `json_text`."""
    write_text(path, json_text(value, indent) + "\n")


def read_bytes(
    path: str | Path,
    what: str = "file",
    *,
    token: str | None = None,
    field: str | None = None,
    most: int = regular.DOCUMENT,
) -> bytes:
    """The content of a regular file of at most `most` bytes; other arguments and errors as of `reading`."""
    with reading(path, what, token=token, field=field), regular.open_regular(path, most) as stream:
        return stream.read()


def read_text(path: str | Path, what: str = "file", *, token: str | None = None, most: int = regular.TEXT) -> str:
    """A text file, whatever editor saved it: with or without a byte order mark, with the line ends of any system.

    Lines come with a line feed. Other encodings than UTF-8 are read where their mark says so.

    Raises:
        DataError: missing, unreadable, or no text; arguments as of `read_bytes`.
    """
    return decode(read_bytes(path, what, token=token, most=most), path, token=token)


def decode(content: bytes, path: str | Path, *, token: str | None = None) -> str:
    """Bytes of a text file as `read_text` gives them.

    Raises:
        DataError: they are no text.
    """
    wide = content.startswith(WIDE)
    try:
        text = content.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = "" if wide else f" in line {content.count(10, 0, error.start) + 1}"
        raise DataError(f"cannot be read as text{line}: {error}", file=path, token=token) from error
    if "\0" in text:
        raise DataError(f"cannot be read as text: NUL at character {text.index(chr(0))}", file=path, token=token)
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_json(path: str | Path) -> Any:
    """Read a JSON file, also one with NaN or Infinity, as older versions and nuScenes' own tools write them.

    Raises:
        DataError: the file is missing, unreadable, or not JSON as `bevkd.jsontext` reads it.
    """
    text = decode(read_bytes(path), path)
    try:
        return jsontext.parse(text)
    except jsontext.JSONTextError as error:
        raise DataError(f"cannot be read as JSON: {error}", file=path) from error


def names_in(folder: str | Path, *suffixes: str) -> list[str]:
    """Names of the entries of a folder that end with one of some suffixes (all without), sorted; none without a folder.

    Unlike `Path.glob`, it does not take a folder that may not be opened for an empty one.

    Raises:
        DataError: the folder cannot be read.
    """
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if not suffixes or entry.name.endswith(suffixes))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise DataError(f"cannot be read: {reason(error)}", file=folder) from error


def digest(value: Any) -> str:
    """Short, stable digest of a JSON-like value (12 hexadecimal characters)."""
    text = json.dumps(value, sort_keys=True, default=str, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def file_digest(path: str | Path) -> str:
    """SHA-256 of a file (hexadecimal).

    Raises:
        DataError: it is missing or cannot be read.
    """
    with reading(path), regular.open_regular(path, regular.TABLE) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
