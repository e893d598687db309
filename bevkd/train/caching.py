"""The teacher cache of a run: found, built or extended by one process while others wait."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch

from bevkd.config import RunConfig
from bevkd.data import FrameDataset, Sample
from bevkd.distill import SCORE_THRESHOLD, TeacherCache, build_cache, cache_name, method_settings
from bevkd.distill.cache import MANIFEST, DamagedCacheError, Entry, description
from bevkd.distill.sizes import entry_bytes
from bevkd.distill.tap import Wanted
from bevkd.errors import BevkdError
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
    asked: Iterable[Entry],
    taught: Callable[[], FrameDataset],
    folder: Path,
) -> TeacherCache:
    """A cache that holds some entries, made or extended as far as it lacks them.

    Args:
        run: a run that reads it.
        teacher: its teacher.
        frames: the frames of the run.
        asked: the entries.
        taught: gives these frames as the teacher reads them.
        folder: the cache.

    Raises:
        ConfigError: no fixed augmentations.
        DataError: bad data.
    """
    assert run.row.method is not None
    asked, wanted = sorted(set(asked)), method_settings(run.row.method).cached()
    made_for = json.loads(json.dumps(description(wanted, teacher.grid, SCORE_THRESHOLD)))
    with waiting_for(folder):
        held = _held(folder, teacher, frames, made_for)
        if held is None or held.missing(asked):
            held = _verified(held)  # before it is copied into the new one
            missing = asked if held is None else held.missing(asked)
            return _build(run, teacher, wanted, taught(), missing, folder, held)
    # Many processes may do this at once, and only one of them holds the lock.
    if _verified(held) is not None:
        return held
    with waiting_for(folder):
        held = _verified(_held(folder, teacher, frames, made_for))  # another one may have made it anew meanwhile
        missing = asked if held is None else held.missing(asked)
        if held is not None and not missing:
            return held
        return _build(run, teacher, wanted, taught(), missing, folder, held)


def _held(folder: Path, teacher: Teacher, frames: FrameDataset, made_for: Any) -> TeacherCache | None:
    """The cache of a folder, if it can be used for this."""
    try:
        held = TeacherCache.open(folder)
        if not is_digest_of(held.manifest["teacher"], teacher.digest, teacher.path):
            logger.info("teacher cache %s was made by another teacher", folder)
            return None
        if held.tokens != frames.tokens or held.manifest["labelled"] != frames.labelled.tolist():
            logger.info("teacher cache %s is of other frames", folder)
            return None
        if held.manifest["made_for"] != made_for:
            logger.info("teacher cache %s was made for something else", folder)
            return None
    except DamagedCacheError as error:
        logger.warning(_ANEW, folder, error)
        return None
    except BevkdError as error:
        level = logging.WARNING if folder.exists() else logging.INFO
        logger.log(level, "no teacher cache (%s)", error)
        return None
    return held


def _verified(held: TeacherCache | None) -> TeacherCache | None:
    """A cache, if all of it is what was written."""
    try:
        if held is not None:
            held.verify()
    except DamagedCacheError as error:
        logger.warning(_ANEW, held and held.folder, error)
        return None
    return held


def _build(
    run: RunConfig,
    teacher: Teacher,
    wanted: Wanted,
    frames: FrameDataset,
    missing: list[Entry],
    folder: Path,
    held: TeacherCache | None,
) -> TeacherCache:
    size = entry_bytes(run, teacher.run) * len(missing) / 1e6
    logger.info("teacher cache %s: %d frame variants to compute, about %.1f MB", folder, len(missing), size)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    before = (folder / MANIFEST).stat() if held is not None else None
    # In the precision of training, so that cached and live targets agree.
    with thread_count(run.train.threads), mixed(run.train.precision, device.type):
        made = build_cache(
            wanted,
            teacher.detector,
            _OneByOne(frames),
            folder,
            missing,
            teacher_digest=teacher.digest,
            together=run.row.teacher_batch,
            extend=held,
            device=device,
        )
    if before is not None:
        # What was there has not changed: whoever has read it need not be made anew.
        os.utime(folder / MANIFEST, ns=(before.st_atime_ns, before.st_mtime_ns))
    return made
