"""Teacher caches: a method's targets for every (frame, variant), computed once, memory-mapped in training.

A cache is a folder, whole or absent:

    manifest.json       who made it and for what; entries are ordered by frame, then variant; `variants` per frame
    <target>.npy        all rows of one target, entry after entry (float16; indices int32; boxes float32)
    <target>.offsets.npy    first row of every entry, and the end (int64)

Teacher boxes of unlabelled frames lie under the reserved name `boxes` as rows (x, y, z, l, w, h, yaw, vx, vy, label,
score). Annotations are not stored: those of a labelled frame come with the batch, and rows per box follow their order,
which is the same for the same token and variant.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bevkd.data.batch import Boxes
from bevkd.distill.base import DistillMethod, Target, Targets
from bevkd.errors import ConfigError, DataError, nearest
from bevkd.geometry import BEVGrid
from bevkd.io import read_json

FORMAT = 2
MANIFEST, BOXES = "manifest.json", "boxes"


def description(method: DistillMethod, grid: BEVGrid, score_threshold: float) -> dict[str, Any]:
    """What a cache was made for, as JSON-like data: two uses with equal descriptions may share it."""
    key = {"target": method.target_key(method.for_cache(method.config)), "score_threshold": score_threshold}
    return key | {"grid": [grid.x_min, grid.y_min, grid.cell, grid.W, grid.H]}


class TeacherCache:
    """Read access to a cache; open with `TeacherCache.open`."""

    def __init__(self, folder: Path, manifest: dict[str, Any], columns: dict[str, tuple[NDArray, NDArray]]) -> None:
        self.folder, self.manifest, self._columns = folder, manifest, columns
        self.tokens: list[str] = manifest["tokens"]
        self.variants: list[int] = manifest["variants"]  # of each frame
        self._first = np.concatenate([[0], np.cumsum(self.variants)])  # entry of each frame's variant 0
        self._frame = {token: i for i, token in enumerate(self.tokens)}

    @classmethod
    def open(cls, folder: str | Path, teacher: str | None = None) -> TeacherCache:
        """Map a cache into memory.

        Args:
            folder: the cache.
            teacher: digest that the teacher must have.

        Raises:
            DataError: missing, damaged, or of another format.
            ConfigError: it was made by another teacher.
        """
        folder = Path(folder)
        path = folder / MANIFEST
        manifest = read_json(path)
        if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
            raise DataError(f"not a teacher cache of format {FORMAT}", file=path)
        if teacher is not None and manifest["teacher"] != teacher:
            raise ConfigError(f"teacher cache {folder} was made by another teacher ({manifest['teacher'][:12]})")
        entries = sum(manifest["variants"])
        if len(manifest["variants"]) != len(manifest["tokens"]):
            raise DataError("row counts do not agree", file=path, field="variants")
        columns = {}
        for name, rows in manifest["rows"].items():
            values, offsets = (_map(folder / f"{name}{end}.npy") for end in ("", ".offsets"))
            if len(offsets) != entries + 1 or len(values) != rows or offsets[-1] != rows:
                raise DataError("row counts do not agree", file=folder / f"{name}.npy", field=name)
            columns[name] = (np.asarray(values), np.asarray(offsets))
        return cls(folder, manifest, columns)

    def check(self, method: DistillMethod, grid: BEVGrid, score_threshold: float) -> None:
        """Whether this cache holds the targets of `method`.

        Raises:
            ConfigError: it was made with other options, another grid or another threshold.
        """
        wanted, have = description(method, grid, score_threshold), self.manifest["made_for"]
        differ = [f"{key}: cache {have.get(key)}, run {wanted[key]}" for key in wanted if have.get(key) != wanted[key]]
        if differ:
            raise ConfigError(f"teacher cache {self.folder} does not fit ({'; '.join(differ)})")

    def _entry(self, token: str, variant: int) -> int:
        if token not in self._frame:
            hint = nearest(token, self.tokens)
            raise DataError(f"teacher cache lacks a frame{hint}", file=self.folder, token=token)
        frame = self._frame[token]
        if not 0 <= variant < self.variants[frame]:
            has = f"{self.variants[frame]} variants"
            raise DataError(f"teacher cache has {has}, not {variant}", file=self.folder, token=token)
        return int(self._first[frame]) + variant

    def check_labels(self, tokens: Sequence[str], labelled: Sequence[bool]) -> None:
        """Whether frames were labelled (targets at annotations) or not (at teacher boxes) when the cache was built.

        Raises:
            DataError: a frame is missing or was cached the other way.
        """
        for token, flag in zip(tokens, labelled, strict=True):
            self._entry(token, 0)  # raises where the frame is missing
            if self.manifest["labelled"][self._frame[token]] != flag:
                word = "without" if flag else "with"
                raise DataError(f"teacher cache was built {word} this frame's labels", file=self.folder, token=token)

    def targets(self, tokens: Sequence[str], variants: Sequence[int]) -> tuple[Targets, Boxes]:
        """Targets in float32 (indices int64) and the teacher's boxes on unlabelled frames, on the CPU.

        Raises:
            DataError: a frame or variant is not in the cache.
        """
        entries = np.array([self._entry(t, v) for t, v in zip(tokens, variants, strict=True)], dtype=np.int64)
        found = {name: self._rows(name, entries) for name in self._columns}
        rows = found.pop(BOXES, None)
        if rows is None:
            return found, Boxes.empty()
        v = rows.values
        return found, Boxes(v[:, :9].contiguous(), v[:, 9].long(), rows.frame, v[:, 10].contiguous())

    def _rows(self, name: str, entries: NDArray[np.int64]) -> Target:
        values, offsets = self._columns[name]
        first, last = offsets[entries], offsets[entries + 1]
        rows = np.concatenate([values[a:b] for a, b in zip(first, last, strict=True)])
        frame = np.repeat(np.arange(len(entries)), last - first)
        tensor: Tensor = torch.from_numpy(rows)
        return Target(tensor.float() if tensor.is_floating_point() else tensor.long(), torch.from_numpy(frame))


def _map(path: Path) -> NDArray:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise DataError("file is missing", file=path) from None
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"cannot be read as an array: {error}", file=path) from error
