"""Parts of teacher caches: values of some taps for chosen (frame, variant) entries, written once, memory-mapped.

A part is a folder, whole or absent, and never changes:

    manifest.json       who made it and for what: tokens and labels of the frames, the taps
    sums.json           a digest of the manifest, and a CRC-32 of every array; parts of older versions have none
    entries.npy         frame and variant of every entry (n, 2), in the order in which they were computed
    <column>.npy        all rows of one tap, entry after entry (float16; indices int32; boxes float32)
    <column>.offsets.npy    first row of every entry, and the end (int64)

Teacher boxes of unlabelled frames lie under the reserved name `boxes` as rows (x, y, z, l, w, h, yaw, vx, vy, label,
score). Annotations are not stored: those of a labelled frame come with the batch, and rows per box follow their order,
which is the same for the same token and variant.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bevkd.distill.cache_write import array_sum
from bevkd.distill.tap import Wanted
from bevkd.errors import ConfigError, DataError, nearest
from bevkd.geometry import BEVGrid
from bevkd.io import digest, read_json

logger = logging.getLogger(__name__)

FORMAT = 3
MOST_VARIANTS = 1_000  # of a frame, as `data.augment.variants` has it
MANIFEST, ENTRIES, SUMS = "manifest.json", "entries.npy", "sums.json"
Entry = tuple[int, int]  # frame (index into the tokens) and variant


def description(wanted: Wanted, grid: BEVGrid, score_threshold: float) -> dict[str, Any]:
    """What a part is for, as JSON-like data."""
    taps = {tap.column: tap.key for tap in wanted.taps.values()}
    return {
        "taps": dict(sorted(taps.items())),
        "boxes": wanted.boxes,
        "grid": [grid.x_min, grid.y_min, grid.cell, grid.W, grid.H],
        "score_threshold": score_threshold,
    }


class DamagedCacheError(DataError):
    """A cache that is not what was written."""


def cache_sums(
    manifest: Mapping[str, Any], entries: NDArray[np.int32], columns: Mapping[str, tuple[int, int]]
) -> dict[str, Any]:
    """What `sums.json` holds, by file; `columns` are the sums of the values and of the offsets of each."""
    sums: dict[str, Any] = {MANIFEST: digest(manifest), ENTRIES: array_sum(entries)}
    for name, (values, offsets) in columns.items():
        sums |= {f"{name}.npy": values, f"{name}.offsets.npy": offsets}
    return sums


class CachePart:
    """Read access to a part; open with `CachePart.open`. It is not copied to other processes: they open it."""

    def __init__(
        self,
        folder: Path,
        manifest: dict[str, Any],
        entries: NDArray[np.int32],
        columns: dict[str, tuple[NDArray[Any], NDArray[np.int64]]],
    ) -> None:
        self.folder, self.manifest, self.entries, self._columns = folder, manifest, entries, columns
        self.tokens: list[str] = manifest["tokens"]
        self._frame = {token: i for i, token in enumerate(self.tokens)}
        most = int(entries[:, 1].max()) + 1 if len(entries) else 1
        self._at = np.full((len(self.tokens), most), -1, dtype=np.int32)
        self._at[entries[:, 0], entries[:, 1]] = np.arange(len(entries))

    def __reduce__(self) -> tuple[Any, ...]:
        return CachePart.open, (self.folder, self.manifest["teacher"])

    @classmethod
    def open(cls, folder: str | Path, teacher: str | None = None) -> CachePart:
        """Map a part into memory.

        Args:
            folder: the part.
            teacher: digest that the teacher must have.

        Raises:
            DamagedCacheError: damaged, as far as that is seen without reading all of it, see `verify`.
            DataError: missing, or of another format.
            ConfigError: it was made by another teacher.
        """
        folder = Path(folder)
        path = folder / MANIFEST
        if not path.exists():
            raise DataError("file is missing", file=path)
        try:
            manifest = read_json(path)
        except DataError as error:
            raise DamagedCacheError(str(error)) from error
        if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
            raise DataError(f"not a teacher cache of format {FORMAT}", file=path)
        if teacher is not None and manifest.get("teacher") != teacher:
            raise ConfigError(f"teacher cache {folder} was made by another teacher ({manifest.get('teacher')})")
        try:
            return cls._mapped(folder, path, manifest)
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise DamagedCacheError(f"damaged ({error})", file=path) from error

    @classmethod
    def _mapped(cls, folder: Path, path: Path, manifest: dict[str, Any]) -> CachePart:
        entries = _map(folder / ENTRIES)
        if entries.ndim != 2 or entries.shape[1] != 2 or entries.dtype != np.int32:
            raise DamagedCacheError("not pairs of frame and variant", file=folder / ENTRIES)
        if len(manifest["labelled"]) != len(manifest["tokens"]) or len(entries) != manifest["entries"]:
            raise DamagedCacheError("row counts do not agree", file=path, field="entries")
        if len(entries) and (int(entries.min()) < 0 or int(entries[:, 0].max()) >= len(manifest["tokens"])):
            raise DamagedCacheError("row counts do not agree", file=path, field="tokens")
        if len(entries) and int(entries[:, 1].max()) > MOST_VARIANTS:
            raise DamagedCacheError("a variant that there cannot be", file=folder / ENTRIES)
        made = manifest["made_for"]
        if not made.keys() >= {"grid", "score_threshold", "taps", "boxes"} or not isinstance(made["taps"], dict):
            raise DamagedCacheError("does not say what it was made for", file=path, field="made_for")
        columns = {}
        for name, rows in manifest["rows"].items():
            values, offsets = (_map(folder / f"{name}{end}.npy") for end in ("", ".offsets"))
            if len(offsets) != len(entries) + 1 or len(values) != rows or offsets[0] != 0 or offsets[-1] != rows:
                raise DamagedCacheError("row counts do not agree", file=folder / f"{name}.npy", field=name)
            if offsets.dtype != np.int64 or (np.diff(offsets) < 0).any():
                raise DamagedCacheError("rows are in no order", file=folder / f"{name}.npy", field=name)
            columns[name] = (values, offsets)
        return cls(folder, manifest, entries, columns)

    @property
    def columns(self) -> frozenset[str]:
        """What it holds values of."""
        return frozenset(self._columns)

    def verify(self, columns: Iterable[str] | None = None) -> None:
        """Read it and compare the sums; once is enough, for a finished part is not written again.

        Args:
            columns: look at these only; default: at all.

        Raises:
            DamagedCacheError: an array is not what was written.
        """
        path = self.folder / SUMS
        if not path.exists():
            logger.warning("teacher cache %s is from before there were sums: damage would not be noticed", self.folder)
            return
        try:
            told = read_json(path)
        except DataError as error:
            raise DamagedCacheError(str(error)) from error
        for file, found in cache_sums(self.manifest, self.entries, self._sums(columns)).items():
            if not isinstance(told, dict) or told.get(file) != found:
                raise DamagedCacheError("damaged: its sum is another", file=self.folder / file)

    def _sums(self, columns: Iterable[str] | None) -> dict[str, tuple[int, int]]:
        read = self.columns if columns is None else self.columns & set(columns)
        return {
            name: (array_sum(values), array_sum(offsets))
            for name, (values, offsets) in self._columns.items()
            if name in read
        }

    def missing(self, wanted: Iterable[Entry]) -> list[Entry]:
        """Those of some entries that are not here, in their order."""
        return [(i, v) for i, v in wanted if v >= self._at.shape[1] or self._at[i, v] < 0]

    def holds(self, token: str, variant: int) -> bool:
        """Whether a frame under one of its augmentations is here."""
        frame = self._frame.get(token)
        return frame is not None and 0 <= variant < self._at.shape[1] and bool(self._at[frame, variant] >= 0)

    def rows(self, column: str, entry: int) -> NDArray[Any]:
        """A copy of the rows of one entry."""
        values, offsets = self._columns[column]
        return np.array(values[offsets[entry] : offsets[entry + 1]])

    def entry(self, token: str, variant: int, labelled: bool) -> int:
        """Where a frame under one of its augmentations is.

        Raises:
            DataError: it is not here, or was cached with (targets at annotations) or without labels (at teacher boxes)
                where it is now the other way.
        """
        if token not in self._frame:
            hint = nearest(token, self.tokens)
            raise DataError(f"teacher cache lacks a frame{hint}", file=self.folder, token=token)
        frame = self._frame[token]
        if self.manifest["labelled"][frame] != labelled:
            word = "without" if labelled else "with"
            raise DataError(f"teacher cache was built {word} this frame's labels", file=self.folder, token=token)
        if variant < 0 or self.missing([(frame, variant)]):
            raise DataError(f"teacher cache lacks variant {variant} of a frame", file=self.folder, token=token)
        return int(self._at[frame, variant])


def _map(path: Path) -> NDArray[Any]:
    try:
        return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
    except FileNotFoundError:
        raise DamagedCacheError("file is missing", file=path) from None
    except Exception as error:  # a header that is damaged is a Python literal that is, and fails in many ways
        raise DamagedCacheError(f"cannot be read as an array: {error}", file=path) from error
