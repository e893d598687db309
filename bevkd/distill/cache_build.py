"""Building teacher caches: run the teacher over the entries that are read, and append what is tapped to flat arrays."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bevkd import __version__, progress
from bevkd.data.batch import Batch, Boxes, Target
from bevkd.distill.cache import BOXES, ENTRIES, FORMAT, MANIFEST, SUMS, Entry, TeacherCache, cache_sums, description
from bevkd.distill.cache_write import ColumnWriter
from bevkd.distill.tap import Wanted, as_columns
from bevkd.distill.teacher import SCORE_THRESHOLD, expose, teach
from bevkd.errors import ConfigError
from bevkd.io import atomic_folder, read_json, write_json

logger = logging.getLogger(__name__)


class ReplayedFrames(Protocol):
    """The frames that entries are of."""

    labelled: NDArray[np.bool_]

    @property
    def tokens(self) -> Sequence[str]:
        """Their sample tokens."""

    def __len__(self) -> int:
        """Number of frames."""

    def variant_count(self, i: int) -> int:
        """How many fixed augmentations a frame has."""

    def get_variant(self, i: int, variant: int) -> Any:
        """A frame under one of them."""


def all_entries(frames: ReplayedFrames) -> list[Entry]:
    """Every frame under every of its fixed augmentations, by frame, then variant.

    Raises:
        ConfigError: a frame has none, so that there is nothing that could be replayed.
    """
    counts = [frames.variant_count(i) for i in range(len(frames))]
    if min(counts, default=0) < 1:
        raise ConfigError("a cached teacher needs data.augment.variants > 0; use teacher_mode: live otherwise")
    return [(i, v) for i, count in enumerate(counts) for v in range(count)]


def companies(entries: Sequence[Entry], asked: Iterable[Entry], size: int) -> Iterator[tuple[list[Entry], list[int]]]:
    """The batches in which some entries are computed, and the places of those in them.

    The last bits of a result depend on what else is in a batch. So a batch always is the same stretch of all entries,
    and an entry has the same bits whatever else is asked for.
    """
    place = {entry: at for at, entry in enumerate(entries)}
    for first, members in groupby(sorted(place[entry] for entry in set(asked)), lambda at: at // size * size):
        yield list(entries[first : first + size]), [at - first for at in members]


def build_cache(
    wanted: Wanted,
    teacher: nn.Module,
    frames: ReplayedFrames,
    out_dir: str | Path,
    asked: Iterable[Entry],
    *,
    teacher_digest: str,
    together: int = 8,
    extend: TeacherCache | None = None,
    collate: Callable[[list[Any]], Batch] | None = None,
    score_threshold: float = SCORE_THRESHOLD,
    device: torch.device | str = "cpu",
) -> TeacherCache:
    """Run `teacher` over some entries and store what is wanted of it.

    The folder appears at once when everything is written; an older one is replaced. No more than a batch is in memory.

    Args:
        wanted: the taps; their names do not matter.
        teacher: the network.
        frames: all frames that entries may be of.
        out_dir: the cache.
        asked: the entries.
        teacher_digest: says which teacher it is.
        together: entries computed together, see `companies`.
        extend: a cache for the same, whose entries are taken over.
        collate: samples to batch.
        score_threshold: see `teach`.
        device: where the teacher runs.

    Raises:
        ConfigError: no fixed variants, so that there is nothing that could be replayed.
        DataError: a target that float16 cannot hold.
    """
    entries, out_dir = all_entries(frames), Path(out_dir)
    if collate is None:
        from bevkd.data import collate as default_collate

        collate = default_collate
    held = as_columns(wanted.taps.values(), wanted.boxes)
    net: Any = teacher.to(device).eval()
    expose(net, held.features)
    done = list(map(tuple, extend.entries.tolist())) if extend is not None else list[Entry]()
    new = set(asked) - set(done)
    with atomic_folder(out_dir) as temporary:
        with ColumnWriter(temporary) as writer:
            if extend is not None:
                writer.copy(extend.folder, list(extend.manifest["rows"]))
            batches = list(companies(entries, new, together))
            for part, keep in progress.track(batches, "asking the teacher", len(batches), "batches"):
                batch = collate([frames.get_variant(i, v) for i, v in part]).to(device)
                targets, context = teach(held, net, batch, net.grid, score_threshold)
                for name, target in targets.items():
                    writer.add(name, target, keep)
                if held.boxes:
                    writer.add(BOXES, _box_rows(context.boxes, batch.labelled), keep, np.float32)
                done += [part[at] for at in keep]
            rows, sums = writer.close()
        entries_done = np.array(done, dtype=np.int32).reshape(-1, 2)
        np.save(temporary / ENTRIES, entries_done)
        manifest = {
            "format": FORMAT,
            "version": __version__,
            "teacher": teacher_digest,
            "made_for": description(held, net.grid, score_threshold),
            "entries": len(done),
            "rows": rows,
            "tokens": list(frames.tokens),
            "labelled": [bool(flag) for flag in frames.labelled],
        }
        write_json(temporary / MANIFEST, manifest, indent=None)
        write_json(temporary / SUMS, cache_sums(read_json(temporary / MANIFEST), entries_done, sums), indent=None)
    return TeacherCache.open(out_dir)


def _box_rows(boxes: Boxes, labelled: Tensor) -> Target:
    taught = boxes.select(~labelled[boxes.frame])
    rows = torch.cat([taught.boxes[:, :9], taught.labels[:, None].float(), taught.scores[:, None]], 1)
    return Target(rows, taught.frame)
