"""Building teacher caches: the teacher looks once at what is read, and what is tapped of it is appended to arrays."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bevkd import __version__, progress
from bevkd.data.batch import Batch, Boxes, Target
from bevkd.distill.cache import PARTS, TeacherCache, part_folders
from bevkd.distill.cache_part import ENTRIES, FORMAT, MANIFEST, SUMS, CachePart, Entry, cache_sums, description
from bevkd.distill.cache_write import ColumnWriter
from bevkd.distill.tap import BOXES, Wanted, as_columns
from bevkd.distill.teacher import SCORE_THRESHOLD, expose, teach
from bevkd.errors import ConfigError
from bevkd.geometry import BEVGrid
from bevkd.io import atomic_folder, digest, read_json, write_json

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


@dataclass
class _Part:
    """A part under construction: columns that lack the same entries."""

    wanted: Wanted
    lacking: frozenset[Entry]
    path: Path
    folder: Path = Path()
    writer: ColumnWriter = field(init=False)
    done: list[Entry] = field(default_factory=list)


def build_cache(
    wanted: Wanted,
    teacher: nn.Module,
    frames: ReplayedFrames,
    out_dir: str | Path,
    asked: Iterable[Entry] | Mapping[str, Iterable[Entry]],
    *,
    teacher_digest: str,
    together: int = 8,
    made_of: str = "",
    extend: TeacherCache | None = None,
    collate: Callable[[list[Any]], Batch] | None = None,
    score_threshold: float = SCORE_THRESHOLD,
    device: torch.device | str = "cpu",
) -> TeacherCache:
    """Run `teacher` once over what a cache lacks and store what is wanted of it.

    What is new appears part by part when all of it is written, each part at once; what is there is not touched. No more
    than a batch is in memory.

    Args:
        wanted: the taps; their names do not matter.
        teacher: the network.
        frames: all frames that entries may be of.
        out_dir: the cache.
        asked: the entries, of all columns or by column (`Wanted.columns`).
        teacher_digest: says which teacher it is.
        together: entries computed together, see `companies`.
        made_of: says which data the frames are of.
        extend: what of the cache is good; other parts that lie there are removed.
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
    made = (teacher_digest, made_of)
    by_column = asked if isinstance(asked, Mapping) else {column: set(asked) for column in held.columns}
    good = extend or TeacherCache(out_dir, [])
    net: Any = teacher.to(device).eval()
    expose(net, held.features)
    parts = _parts(held, good.missing(by_column), out_dir, made, net.grid, score_threshold)
    with ExitStack() as stack:
        for part in parts:
            part.folder = stack.enter_context(atomic_folder(part.path))
            part.writer = stack.enter_context(ColumnWriter(part.folder))
        lacking = frozenset[Entry]().union(*(part.lacking for part in parts))
        batches = list(companies(entries, lacking, together))
        for company, keep in progress.track(batches, "asking the teacher", len(batches), "batches"):
            places = [[at for at in keep if company[at] in part.lacking] for part in parts]
            now = as_columns(
                (tap for part, at in zip(parts, places, strict=True) if at for tap in part.wanted.taps.values()),
                any(part.wanted.boxes for part, at in zip(parts, places, strict=True) if at),
            )
            batch = collate([frames.get_variant(i, v) for i, v in company]).to(device)
            targets, context = teach(now, net, batch, net.grid, score_threshold)
            if now.boxes:
                targets[BOXES] = _box_rows(context.boxes, batch.labelled)
            for part, at in zip(parts, places, strict=True):
                for name in part.wanted.columns if at else ():
                    part.writer.add(name, targets[name], at, np.float32 if name == BOXES else None)
                part.done += [company[place] for place in at]
        for part in parts:
            _describe(part, frames, made, net.grid, score_threshold)
    _drop_others(out_dir, {*(part.path for part in parts), *(part.folder for part in good.parts)})
    return TeacherCache(out_dir, [*good.parts, *(CachePart.open(part.path) for part in parts)])


def _parts(
    held: Wanted,
    missing: Mapping[str, list[Entry]],
    out_dir: Path,
    made: tuple[str, str],
    grid: BEVGrid,
    score_threshold: float,
) -> list[_Part]:
    """One for all columns that lack the same entries. Its name follows from what is in it, so that whoever goes on
    after a crash writes the same.
    """
    alike: dict[frozenset[Entry], list[str]] = {}
    for column in held.columns:
        if column in missing:
            alike.setdefault(frozenset(missing[column]), []).append(column)
    out = []
    for lacking, columns in alike.items():
        wanted = Wanted({name: held.taps[name] for name in columns if name != BOXES}, BOXES in columns)
        made_for = description(wanted, grid, score_threshold)
        name = PARTS.replace("*", digest([*made, made_for, sorted(lacking)]))
        out.append(_Part(wanted, lacking, out_dir / name))
    return out


def _describe(
    part: _Part, frames: ReplayedFrames, made: tuple[str, str], grid: BEVGrid, score_threshold: float
) -> None:
    """Finish the arrays of a part, and write what says what they are."""
    rows, sums = part.writer.close()
    entries = np.array(part.done, dtype=np.int32).reshape(-1, 2)
    np.save(part.folder / ENTRIES, entries)
    manifest = {
        "format": FORMAT,
        "version": __version__,
        "teacher": made[0],
        "made_of": made[1],
        "made_for": description(part.wanted, grid, score_threshold),
        "entries": len(part.done),
        "rows": rows,
        "tokens": list(frames.tokens),
        "labelled": [bool(flag) for flag in frames.labelled],
    }
    write_json(part.folder / MANIFEST, manifest, indent=None)
    write_json(part.folder / SUMS, cache_sums(read_json(part.folder / MANIFEST), entries, sums), indent=None)


def _drop_others(folder: Path, known: set[Path]) -> None:
    for path in part_folders(folder):
        if path not in known:
            (path / MANIFEST).unlink(missing_ok=True)  # first: what is left by a crash is no part
            shutil.rmtree(path, ignore_errors=True)


def _box_rows(boxes: Boxes, labelled: Tensor) -> Target:
    taught = boxes.select(~labelled[boxes.frame])
    rows = torch.cat([taught.boxes[:, :9], taught.labels[:, None].float(), taught.scores[:, None]], 1)
    return Target(rows, taught.frame)
