"""The teacher cache of a run: found, built or extended by one process while others wait."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import torch

from bevkd.config import RunConfig
from bevkd.data import FrameDataset, Sample
from bevkd.distill import SCORE_THRESHOLD, TeacherCache, build_cache, cache_name
from bevkd.distill.cache import part_folders
from bevkd.distill.cache_part import CachePart, DamagedCacheError, Entry, description
from bevkd.distill.sizes import column_bytes
from bevkd.distill.tap import BOXES, Wanted
from bevkd.errors import BevkdError
from bevkd.io import digest, file_digest
from bevkd.locks import waiting_for
from bevkd.train.optim import mixed, thread_count
from bevkd.train.teacher import Teacher, is_digest_of, runs_root

logger = logging.getLogger(__name__)
_ANEW = "teacher cache %s is made anew: %s"


def cache_dir(run: RunConfig, teacher: Teacher, out: Path) -> Path:
    """Folder of the teacher cache that a run reads, `<runs>/../cache/<scale>/<name>`."""
    return runs_root(out).parent / "cache" / run.scale / cache_name(run, teacher.run)


class _OneByOne:
    """Frames that are asked for in their order: what was decoded of one is dropped when the next one comes."""

    def __init__(self, frames: FrameDataset) -> None:
        self._frames, self._current = frames, -1
        self.tokens, self.labelled = frames.tokens, frames.labelled
        self.variant_count = frames.variant_count

    def __len__(self) -> int:
        return len(self._frames)

    def get_variant(self, i: int, variant: int) -> Sample:
        """A frame under one of its fixed augmentations."""
        if i != self._current:
            self._frames.forget()
            self._current = i
        return self._frames.get_variant(i, variant)


def open_cache(
    run: RunConfig,
    teacher: Teacher,
    frames: FrameDataset,
    wanted: Wanted,
    asked: Mapping[str, Collection[Entry]],
    taught: Callable[[], FrameDataset],
    folder: Path,
) -> TeacherCache:
    """A cache that holds what is asked for; what it lacks is computed in one pass of the teacher and added to it.

    Args:
        run: a run that reads it.
        teacher: its teacher.
        frames: the frames of the run.
        wanted: the taps.
        asked: entries by the columns of these.
        taught: gives these frames as the teacher reads them.
        folder: the cache.

    Raises:
        ConfigError: no fixed augmentations.
        DataError: bad data.
    """
    made_for = json.loads(json.dumps(description(wanted, teacher.grid, SCORE_THRESHOLD)))
    made_of = _index_digest(Path(run.data.index))

    def held() -> TeacherCache:
        return _held(folder, teacher, frames, made_of, made_for)

    def complete(known: TeacherCache) -> TeacherCache:
        missing = known.missing(asked)
        return _build(run, teacher, wanted, taught(), missing, folder, known, made_of) if missing else known

    with waiting_for(folder):
        known = held()
        found = complete(known)
    # Many processes may do this at once, and only one of them holds the lock. What was made just now is as it was made.
    if len(_verified(known, asked).parts) == len(known.parts):
        return found
    with waiting_for(folder):
        return complete(_verified(held(), asked))  # another one may have made it anew meanwhile


def _index_digest(index: Path) -> str:
    """Changes when data are converted to another index, though frames keep their tokens."""
    return digest([file_digest(path) for path in sorted(index.glob("*.parquet"))])


def _held(folder: Path, teacher: Teacher, frames: FrameDataset, made_of: str, made_for: Any) -> TeacherCache:
    """The parts of a cache that can be used for this."""
    found = part_folders(folder)
    if not found:
        logger.info("no teacher cache %s", folder)
    return TeacherCache(folder, [part for path in found if (part := _part(path, teacher, frames, made_of, made_for))])


def _part(path: Path, teacher: Teacher, frames: FrameDataset, made_of: str, made_for: Any) -> CachePart | None:
    try:
        part = CachePart.open(path)
    except DamagedCacheError as error:
        logger.warning(_ANEW, path.parent, error)
        return None
    except BevkdError as error:
        logger.warning("no part of a teacher cache (%s)", error)
        return None
    made = part.manifest["made_for"]
    if not is_digest_of(part.manifest["teacher"], teacher.digest, teacher.path):
        logger.info("teacher cache %s was made by another teacher", path)
    elif (part.tokens, part.manifest["labelled"], part.manifest.get("made_of")) != (
        frames.tokens,
        frames.labelled.tolist(),
        made_of,
    ):
        logger.info("teacher cache %s is of other frames", path)
    elif (
        any(made[key] != made_for[key] for key in ("grid", "score_threshold"))
        or any(made["taps"].get(column, key) != key for column, key in made_for["taps"].items())
        or part.columns != {*made["taps"], *([BOXES] if made["boxes"] else [])}
    ):
        logger.info("teacher cache %s was made for something else", path)
    else:
        return part
    return None


def _verified(held: TeacherCache, columns: Collection[str]) -> TeacherCache:
    """Those parts of a cache in which these columns are what was written."""

    def good(part: CachePart) -> bool:
        try:
            if part.columns & set(columns):
                part.verify(columns)
        except DamagedCacheError as error:
            logger.warning(_ANEW, held.folder, error)
            return False
        return True

    return TeacherCache(held.folder, [part for part in held.parts if good(part)])


def _build(
    run: RunConfig,
    teacher: Teacher,
    wanted: Wanted,
    frames: FrameDataset,
    missing: Mapping[str, list[Entry]],
    folder: Path,
    held: TeacherCache,
    made_of: str,
) -> TeacherCache:
    size = column_bytes(wanted, teacher.run, run.data.kind)
    total = sum(len(entries) * size.get(column, 0.0) for column, entries in missing.items()) / 1e6
    count = len(set().union(*missing.values()))
    logger.info("teacher cache %s: %d frame variants to compute, about %.1f MB", folder, count, total)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    # In the precision of training, so that cached and live targets agree.
    with thread_count(run.train.threads), mixed(run.train.precision, device.type):
        return build_cache(
            wanted,
            teacher.detector,
            _OneByOne(frames),
            folder,
            missing,
            teacher_digest=teacher.digest,
            together=run.row.teacher_batch,
            made_of=made_of,
            extend=held,
            device=device,
        )
