"""What a teacher cache is called: a digest of all that its contents depend on, known without a tensor library."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import get_args

from bevkd.config import ConfigTree, DataConfig, RunConfig, config_tree, identity, load_rows, load_run
from bevkd.config.identity import field_facts, settings_read
from bevkd.config.marks import ReadFor
from bevkd.config.tiers import RowTier
from bevkd.data.reads import reads_of
from bevkd.distill.settings import method_settings
from bevkd.errors import ConfigError, nearest
from bevkd.io import digest

# Settings of the data that belong to a network: how much of each sensor it reads, and in what form.
OF_NETWORK = tuple(name for name, _, marks in field_facts(DataConfig) if any(isinstance(m, ReadFor) for m in marks))


def teacher_config(run: RunConfig) -> RunConfig:
    """The settings of a run's teacher.

    Raises:
        ConfigError: the run has no teacher.
    """
    if run.row.teacher is None or run.row.method is None:
        raise ConfigError(f"run {run.run!r} has no teacher to cache")
    return load_run(run.row.teacher, run.scale, run.teacher_seed)


def cache_name(run: RunConfig, teacher: RunConfig | None = None) -> str:
    """Folder name of the teacher cache that a run reads: `<teacher run>_seed<k>_<digest>`.

    The digest covers the teacher, what is tapped of it, which frames with which labels, their augmentation, the grid
    and the precision that the teacher runs in, as far as these are no defaults. Rows that agree in this share one
    cache, whatever their methods do with it.

    Args:
        run: the student's settings.
        teacher: those of its teacher; default: as they are now configured.

    Raises:
        ConfigError: the run has no teacher or no method.
    """
    teacher = teacher or teacher_config(run)
    row = run.row
    if row.method is None:
        raise ConfigError(f"run {run.run!r} has no method to tap its teacher for")
    data = settings_read(run.data, reads_of(teacher.model, teacher.data).without_targets().sensors)
    if run.data.augment.gt_paste:  # it changes annotations, also where the teacher looks at no LiDAR
        data.setdefault("augment", {})["gt_paste"] = run.data.augment.gt_paste
    content = {
        "teacher": identity(teacher),
        "wanted": method_settings(row.method).cached().key,
        "frames": [row.frames, row.labelled_subset, run.train.frames_limit, row.teacher_batch],
        "data": {name: value for name, value in data.items() if name not in OF_NETWORK},
        "grid": settings_read(run.model.grid, ()),
        "precision": run.train.precision,
    }
    return f"{row.teacher}_seed{run.teacher_seed}_{digest(content)}"


def reads_cache(run: RunConfig) -> bool:
    """Whether a run learns from stored targets of a teacher. Its teacher may be there for its boxes or weights alone.

    Raises:
        ConfigError: unknown method or options.
    """
    row = run.row
    if row.teacher is None or row.method is None or row.teacher_mode != "cached":
        return False
    return method_settings(row.method).uses_teacher


def caches_of(run: RunConfig) -> dict[str, list[RunConfig]]:
    """Name of a teacher cache -> the trainings of a run's row that read it: a cache for each seed of the teacher.

    Raises:
        ConfigError: unknown method or options.
    """
    if not reads_cache(run):
        return {}
    by_teacher: dict[int, list[RunConfig]] = {}
    for seed in run.row.seeds:
        one = replace(run, seed=seed)
        by_teacher.setdefault(one.teacher_seed, []).append(one)
    return {cache_name(runs[0]): runs for runs in by_teacher.values()}


def readers_of(run: RunConfig) -> list[RunConfig]:
    """The trainings of the configuration, with every of their seeds, that read the teacher cache of a run, as far as
    they belong to the first tier that reads it: trainings of later tiers add to it what they need.

    Raises:
        ConfigError: the run has no teacher or no method.
    """
    return _readers(config_tree(), run.scale).get(cache_name(run), [])


def reader_of(name: str, scale: str) -> RunConfig:
    """A training of the configuration that reads the teacher cache of a name.

    Raises:
        ConfigError: there is none; the message names the nearest cache.
    """
    known = _readers(config_tree(), scale)
    if name not in known:
        raise ConfigError(f"no run at scale {scale!r} reads a teacher cache {name!r}{nearest(name, known)}")
    return known[name][0]


@cache
def _readers(_tree: ConfigTree, scale: str) -> dict[str, list[RunConfig]]:
    """Name of a teacher cache -> the trainings that read it."""
    found: dict[str, list[RunConfig]] = {}
    for row in load_rows().values():
        if row.teacher is not None:
            for name, runs in caches_of(load_run(row.id, scale, row.seeds[0])).items():
                found.setdefault(name, []).extend(runs)
    for name, runs in found.items():
        first = min((run.row.target for run in runs), key=get_args(RowTier).index)
        found[name] = [run for run in runs if run.row.target == first]
    return found
