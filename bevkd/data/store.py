"""Samples on disk: what is made of a frame under a fixed augmentation is the same in every run, so it is made once.

Beside an index lies `<index>_samples/<digest>/`, with a file per (token, variant); the digest says of what samples are
made: data, settings, code, libraries. A file is whole or absent, whoever writes it writes the same bytes, and what is
damaged is made anew: so any number of trainings may read and fill it at once, without a lock.

A file: a line of a sum and JSON that names its arrays, then the arrays, each at a multiple of 64 bytes. It is read, and
not mapped into memory: batches copy every array once more anyway, and a disk that fails cannot end the process.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import logging
import math
import shutil
import time
import zlib
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import PIL
from numpy.typing import NDArray

from bevkd.data.sample import CameraSample, Sample
from bevkd.errors import DataError
from bevkd.io import atomic_path, digest, read_json, write_json
from bevkd.processor import processor
from bevkd.temporary import sweep

log = logging.getLogger(__name__)

FORMAT = 2
MANIFEST = "manifest.json"
_ALIGN = 64
_FIELDS = ("bev_aug", "boxes", "labels", "points", "radar")
_CAMERAS = ("images", "intrinsics", "ego_from_camera", "image_aug", "depth", "lidar")
_HOUR = 3600.0


class _DamagedError(Exception):
    """A file is not what was written."""


class UnstorableError(Exception):
    """A sample holds something else than arrays."""


@cache
def makers(extra: frozenset[Path] = frozenset()) -> str:
    """Digest of whatever makes samples: the data side's code, files of readers from elsewhere, libraries, processor."""
    package = Path(__file__).resolve().parents[1]
    files = {file for part in ("data", "geometry") for file in (package / part).rglob("*.py")}
    found = hashlib.sha256()
    for file in sorted(files | extra):
        found.update(file.name.encode() + b"\0" + file.read_bytes())
    # Products of points and poses, and pixels in between, are rounded as libraries and processors like.
    return digest([found.hexdigest(), FORMAT, np.__version__, PIL.__version__, processor()])


def store_beside(index: Path, made_of: Mapping[str, Any], readers: Iterable[object], limit: float) -> SampleStore:
    """The store of samples of an index.

    Args:
        index: its folder.
        made_of: data and settings, as JSON-like data.
        readers: what reads sensors and files; such as come from elsewhere are code that makes samples, too.
        limit: GB, see `SampleStore`.
    """
    kinds = {kind for reader in readers for kind in type(reader).__mro__}
    own = {kind for kind in kinds if kind.__module__ not in ("abc", "builtins", "typing")}
    code = makers(frozenset(Path(inspect.getfile(kind)).resolve() for kind in own))
    root = index.with_name(f"{index.name}_samples")
    return SampleStore(root, code, json.loads(json.dumps(made_of)), int(limit * 1e9))


class SampleStore:
    """Samples of one digest.

    Args:
        root: folder of all samples of an index.
        made_by: see `makers`.
        made_of: data and settings, as JSON-like data.
        limit: bytes that all of `root` may have; beyond it nothing is written.
    """

    def __init__(self, root: Path, made_by: str, made_of: Mapping[str, Any], limit: int) -> None:
        self.root, self.made_by, self.made_of, self.limit = root, made_by, dict(made_of), limit
        self.folder = root / digest([made_by, self.made_of])
        self._room = 0  # bytes that may be written before looking again
        self._closed = False  # nothing more is written by this process

    def read(self, token: str, variant: int, labelled: bool) -> Sample | None:
        """A sample as it was written; None where it is not here, or damaged."""
        path = self._path(token, variant, labelled)
        try:
            return _unpack(np.fromfile(path, dtype=np.uint8), token, variant, labelled)
        except FileNotFoundError:
            return None
        except (_DamagedError, OSError) as error:
            log.warning("%s: %s: the sample is made anew", path, error)
            return None

    def write(self, sample: Sample) -> None:
        """Keep a sample, if there is room; a store that cannot be written is left as it is, with a word in the log."""
        if self._closed:
            return
        try:
            content = _pack(sample)
            size = sum(len(part) for part in content)
            if not self._has_room(size):
                return
            path = self._path(sample.token, sample.variant, sample.labelled)
            # Not flushed to the disk: what a crash leaves of a file is found out by its sum.
            with atomic_path(path, flush=False) as temporary, open(temporary, "wb") as stream:
                stream.writelines(content)
        except (DataError, OSError, UnstorableError) as error:
            log.info("samples are not stored: %s", error)
            self._closed = True

    def _path(self, token: str, variant: int, labelled: bool) -> Path:
        name = hashlib.sha256(token.encode()).hexdigest()[:32]
        return self.folder / f"{name}.{variant}{'' if labelled else '.unlabelled'}"

    def _has_room(self, size: int) -> bool:
        if self._room < size:
            if not (self.folder / MANIFEST).exists():
                write_json(self.folder / MANIFEST, {"made_by": self.made_by, "made_of": self.made_of})
            sweep(self.folder)
            left = self.limit - _size(self.root)
            if left < size and self._drop_unreachable():
                left = self.limit - _size(self.root)
            if left < size:
                log.info("%s is full (data.store_gb)", self.root)
                self._closed = True
                return False
            # Others write as well: after a while it is time to look again.
            self._room = min(left, max(size, self.limit // 20))
        self._room -= size
        return True

    def _drop_unreachable(self) -> bool:
        """Remove samples of other code, libraries or data: no run of this code reads them again."""
        dropped = False
        for folder in self.root.iterdir():
            if folder == self.folder or not folder.is_dir():
                continue
            try:
                held = read_json(folder / MANIFEST)
                reachable = (held["made_by"], held["made_of"]["index"]) == (self.made_by, self.made_of["index"])
            except (DataError, KeyError, TypeError):
                reachable = time.time() - folder.stat().st_mtime < _HOUR  # perhaps it is just being begun
            if not reachable:
                log.info("%s is of other code or data: dropped", folder)
                shutil.rmtree(folder, ignore_errors=True)
                dropped = True
        return dropped


def _size(root: Path) -> int:
    """Bytes of the files below a folder, without what is gone before it is looked at."""
    total = 0
    for file in root.rglob("*"):
        try:
            total += file.stat().st_size
        except FileNotFoundError:
            continue
    return total


def _arrays(sample: Sample) -> Iterable[tuple[str, NDArray[Any]]]:
    if sample.targets is not None or sample.teacher is not None:
        raise UnstorableError("a sample with what it brings of a teacher")
    for name in _FIELDS:
        if (held := getattr(sample, name)) is not None:
            yield name, held
    if sample.cameras is not None:
        for name in _CAMERAS:
            if (held := getattr(sample.cameras, name)) is not None:
                yield f"cameras.{name}", held
    for name, held in sample.extra.items():
        if not isinstance(held, np.ndarray):
            raise UnstorableError(f"{name!r} is no array but {type(held).__name__}")
        yield f"extra.{name}", held


def _pack(sample: Sample) -> list[bytes]:
    parts: list[bytes] = []
    facts, total, sums = [], 0, 0
    for name, held in _arrays(sample):
        if held.dtype.kind not in "biuf":
            raise UnstorableError(f"{name!r} is of {held.dtype}")
        part = held.tobytes()
        part += b"\0" * (-len(part) % _ALIGN)
        facts.append([name, held.dtype.str, list(held.shape)])
        parts.append(part)
        sums = (sums + _sum(np.frombuffer(part, dtype=np.uint8))) % 2**64
        total += len(part)
    cameras = None if sample.cameras is None else [sample.cameras.mean, sample.cameras.std]
    who = [sample.token, sample.variant, sample.labelled, list(sample.inputs)]
    header = json.dumps({"format": FORMAT, "who": who, "cameras": cameras, "arrays": facts, "sum": sums, "size": total})
    line = _signed(header.encode()) + b"\n"
    return [line + b"\0" * (-len(line) % _ALIGN), *parts]


def _signed(header: bytes) -> bytes:
    """A header behind its own sum: bits of it that fell over would make other arrays of the same content."""
    return b"%08x " % zlib.crc32(header) + header


def _sum(flat: NDArray[np.uint8]) -> int:
    """Of the content as numbers of eight bytes: blocks that were never written and bits that fell over change it."""
    return int(flat.view(np.uint64).sum(dtype=np.uint64)) if len(flat) else 0


def _unpack(raw: NDArray[np.uint8], token: str, variant: int, labelled: bool) -> Sample:
    try:
        end = raw[: 1 << 16].tobytes().index(b"\n")
        line = raw[:end].tobytes()
        if line != _signed(line[9:]):
            raise _DamagedError("damaged")
        header = json.loads(line[9:])
        start = end + 1 + -(end + 1) % _ALIGN
        content = raw[start:]
        if header["format"] != FORMAT or len(content) != header["size"] or _sum(content) != header["sum"]:
            raise _DamagedError("damaged")
        if header["who"][:3] != [token, variant, labelled]:
            raise _DamagedError("of another frame")
        arrays, at = {}, 0
        for name, kind, shape in header["arrays"]:
            dtype = np.dtype(kind)
            length = dtype.itemsize * math.prod(shape)
            arrays[name] = content[at : at + length].view(dtype).reshape(shape)
            at += length + -length % _ALIGN
        cameras = None
        if header["cameras"] is not None:
            mean, std = header["cameras"]
            fields: dict[str, Any] = {name: arrays.get(f"cameras.{name}") for name in _CAMERAS}
            cameras = CameraSample(**fields, mean=tuple(mean), std=tuple(std))
        values: dict[str, Any] = {name: arrays.get(name) for name in _FIELDS}
        extra = {name.removeprefix("extra."): held for name, held in arrays.items() if name.startswith("extra.")}
        return Sample(
            token=token, variant=variant, labelled=labelled, inputs=tuple(header["who"][3]), cameras=cameras,
            extra=extra, **values,
        )  # fmt: skip
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise _DamagedError(f"damaged ({error})") from error
