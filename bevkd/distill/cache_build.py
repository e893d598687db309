"""Building teacher caches: run the teacher once over every (frame, variant) and append its targets to flat arrays."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bevkd import __version__
from bevkd.config import RunConfig, to_plain
from bevkd.data.batch import Batch
from bevkd.distill.base import DistillMethod, Target
from bevkd.distill.build import method_options
from bevkd.distill.cache import BOXES, FORMAT, MANIFEST, TeacherCache, description
from bevkd.distill.teacher import SCORE_THRESHOLD, teach
from bevkd.errors import ConfigError, DataError
from bevkd.io import atomic_folder, digest, write_json

logger = logging.getLogger(__name__)


class VariantDataset(Protocol):
    """The frames to cache."""

    labelled: NDArray[np.bool_]

    @property
    def tokens(self) -> Sequence[str]:
        """Their sample tokens."""

    def __len__(self) -> int:
        """Number of frames."""

    def get_variant(self, index: int, variant: int) -> Any:
        """One frame under one of its fixed augmentations."""


class _Column:
    """One growing `.npy` file: rows are appended, the header is written over when the count is known."""

    def __init__(self, path: Path, dtype: np.dtype, shape: tuple[int, ...]) -> None:
        self.path, self.dtype, self.shape = path, dtype, shape
        self.counts: list[int] = []
        self.file: IO[bytes] = path.open("wb")
        self._header(0)
        self.start = self.file.tell()

    def _header(self, rows: int) -> None:
        fields = {"descr": np.lib.format.dtype_to_descr(self.dtype), "fortran_order": False}
        np.lib.format.write_array_header_1_0(self.file, fields | {"shape": (rows, *self.shape)})

    def append(self, values: NDArray, counts: list[int]) -> None:
        self.file.write(np.ascontiguousarray(values, dtype=self.dtype).tobytes())
        self.counts += counts

    def close(self) -> int:
        """Finish the file and its offsets; the number of rows."""
        offsets = np.concatenate([[0], np.cumsum(self.counts)]).astype(np.int64)
        self.file.seek(0)
        self._header(int(offsets[-1]))  # NumPy pads headers so that the first axis may grow in place
        if self.file.tell() != self.start:
            raise RuntimeError("the array header changed its length")
        self.file.flush()
        os.fsync(self.file.fileno())
        self.file.close()
        np.save(self.path.with_name(f"{self.path.stem}.offsets.npy"), offsets)
        return int(offsets[-1])


class _Writer:
    """The columns of a cache under construction."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.columns = folder, dict[str, _Column]()

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for column in self.columns.values():
            column.file.close()

    def add(self, name: str, target: Target, frames: int, dtype: type | None = None) -> None:
        values = target.values.detach().cpu().numpy()
        if dtype is None:
            dtype = np.float16 if np.issubdtype(values.dtype, np.floating) else np.int32
        with np.errstate(over="ignore"):
            stored: NDArray[Any] = values.astype(dtype)
        if not np.isfinite(stored).all():
            raise DataError("teacher target is not finite or too large for float16", field=name)
        if name not in self.columns:
            self.columns[name] = _Column(self.folder / f"{name}.npy", np.dtype(dtype), stored.shape[1:])
        counts = torch.bincount(target.frame.cpu(), minlength=frames).tolist()
        self.columns[name].append(stored, counts)

    def close(self) -> dict[str, int]:
        return {name: column.close() for name, column in self.columns.items()}


def _box_rows(boxes: Any, labelled: Tensor) -> Target:
    taught = boxes.select(~labelled[boxes.frame])
    rows = torch.cat([taught.boxes[:, :9], taught.labels[:, None].float(), taught.scores[:, None]], 1)
    return Target(rows, taught.frame)


def build_cache(
    method: DistillMethod,
    teacher: nn.Module,
    dataset: VariantDataset,
    out_dir: str | Path,
    variants: int | Sequence[int],
    batch_size: int,
    *,
    teacher_digest: str,
    collate: Callable[[list[Any]], Batch] | None = None,
    score_threshold: float = SCORE_THRESHOLD,
    device: torch.device | str = "cpu",
) -> TeacherCache:
    """Run `teacher` over every frame and variant of `dataset` and store what `method` needs of it.

    The folder appears at once when everything is written; an older one is replaced. The targets are those of the
    method's `for_cache` options, so that methods with equal target keys can share the cache. `variants` is the number
    of fixed augmentations, of each frame or of all alike.

    Raises:
        ConfigError: no fixed variants, so that there is nothing that could be replayed.
        DataError: a target that float16 cannot hold.
    """
    counts = [variants] * len(dataset) if isinstance(variants, int) else list(variants)
    if min(counts, default=0) < 1:
        raise ConfigError("a cached teacher needs data.augment.variants > 0; use teacher_mode: live otherwise")
    if collate is None:
        from bevkd.data import collate as default_collate

        collate = default_collate
    twin = type(method)(method.for_cache(method.config), method.teacher, method.teacher).eval()
    net: Any = teacher.to(device).eval()
    out_dir, entries = Path(out_dir), [(i, v) for i, count in enumerate(counts) for v in range(count)]
    with atomic_folder(out_dir) as temporary:
        with _Writer(temporary) as writer:
            for start in range(0, len(entries), batch_size):
                part = entries[start : start + batch_size]
                batch = collate([dataset.get_variant(i, v) for i, v in part]).to(device)
                targets, context = teach(twin, net, batch, net.grid, score_threshold)
                for name, target in targets.items():
                    writer.add(name, target, len(part))
                if twin.needs_boxes:
                    writer.add(BOXES, _box_rows(context.boxes, batch.labelled), len(part), np.float32)
                if start // batch_size % 50 == 0:
                    logger.info("teacher cache: %d of %d frame variants", start + len(part), len(entries))
            rows = writer.close()
        manifest = {
            "format": FORMAT,
            "version": __version__,
            "teacher": teacher_digest,
            "made_for": description(method, net.grid, score_threshold),
            "variants": counts,
            "rows": rows,
            "tokens": list(dataset.tokens),
            "labelled": [bool(flag) for flag in dataset.labelled],
        }
        write_json(temporary / MANIFEST, manifest, indent=None)
    return TeacherCache.open(out_dir)


def cache_name(run: RunConfig) -> str:
    """Folder name of the teacher cache that a run reads: `<teacher run>_seed<k>_<digest>`.

    The digest covers what the stored targets depend on: the method's target key, which frames with which labels, the
    data and its fixed augmentations, the grid and the precision the teacher runs in. Rows that agree in these share
    one cache.

    Raises:
        ConfigError: the run has no teacher or no method.
    """
    row = run.row
    if row.teacher is None or row.method is None:
        raise ConfigError(f"run {run.run!r} has no teacher to cache")
    cls, options = method_options(row.method)
    data = to_plain(run.data)
    for name in ("memory_cache", "cbgs", "max_range", "tune_split", "report_split"):
        data.pop(name)
    content = {
        "target": cls.target_key(cls.for_cache(options)),
        "frames": [row.frames, row.labelled_subset, run.train.frames_limit],
        "data": data,
        "grid": to_plain(run.model.grid),
        "precision": run.train.precision,
        "classes": to_plain(run.model.head)["tasks"],
    }
    return f"{row.teacher}_seed{row.teacher_seed}_{digest(content)}"
