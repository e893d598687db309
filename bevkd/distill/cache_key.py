"""What a teacher cache is called: a digest of all that its contents depend on, known without a tensor library."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any, get_args

from bevkd.config import ConfigTree, DataConfig, RunConfig, config_tree, identity, load_rows, load_run, paper_of
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

    The digest covers the teacher, which frames with which labels, their augmentation, the grid and the precision that
    the teacher runs in, as far as these are no defaults. Rows that agree in this share one cache, whatever they tap: a
    cache holds each tap by itself.

    Args:
        run: the student's settings.
        teacher: those of its teacher; default: as they are now configured.

    Raises:
        ConfigError: the run has no teacher or no method.
    """
    row = run.row
    if teacher is None:
        teacher = teacher_config(run)
        known = _identity(config_tree(), teacher.run, teacher.scale, teacher.seed)
    else:
        known = identity(teacher)
    if row.method is None:
        raise ConfigError(f"run {run.run!r} has no method to tap its teacher for")
    data = settings_read(run.data, reads_of(teacher.model, teacher.data).without_targets().sensors)
    if run.data.augment.gt_paste:  # it changes annotations, also where the teacher looks at no LiDAR
        data.setdefault("augment", {})["gt_paste"] = run.data.augment.gt_paste
    content = {
        "teacher": known,
        "frames": [row.frames, row.labelled_subset, run.train.frames_limit, row.teacher_batch],
        "data": {name: value for name, value in data.items() if name not in OF_NETWORK},
        "grid": settings_read(run.model.grid, ()),
        "precision": run.train.precision,
    }
    return f"{row.teacher}_seed{run.teacher_seed}_{digest(content)}"


@cache
def _identity(_tree: ConfigTree, run: str, scale: str, seed: int) -> dict[str, Any]:
    """A teacher has many students."""
    return identity(load_run(run, scale, seed))


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


def audience_of(run: RunConfig) -> str:
    """`<paper>-<tier>` of a run. What its rows read of one cache is made in one pass of the teacher, so that a paper
    can be made without the taps of another one's rows, and a tier without those of a later one.
    """
    paper = paper_of(run.run)
    return f"{paper.name if paper else 'other'}-{run.row.target}"


def readers_of(run: RunConfig) -> list[RunConfig]:
    """The trainings of the configuration, with every of their seeds, that are of the audience of a run and read its
    teacher cache. Others add to it what they need.

    Raises:
        ConfigError: the run has no teacher or no method.
    """
    return _readers(config_tree(), run.scale).get(cache_name(run), {}).get(audience_of(run), [])


def reader_of(name: str, scale: str, audience: str | None = None) -> RunConfig:
    """A training of the configuration that reads the teacher cache of a name.

    Args:
        name: of the cache.
        scale: of the training.
        audience: that it belongs to; default: the first.

    Raises:
        ConfigError: there is none; the message names the nearest cache or audience.
    """
    known = _readers(config_tree(), scale)
    if name not in known:
        raise ConfigError(f"no run at scale {scale!r} reads a teacher cache {name!r}{nearest(name, known)}")
    if audience is not None and audience not in known[name]:
        raise ConfigError(f"teacher cache {name} has no audience {audience!r}{nearest(audience, known[name])}")
    return (known[name][audience] if audience is not None else next(iter(known[name].values())))[0]


def audiences_of(name: str, scale: str) -> dict[str, list[RunConfig]]:
    """The trainings of the configuration that read a teacher cache, by audience: earlier tiers first."""
    return _readers(config_tree(), scale).get(name, {})


@cache
def _readers(_tree: ConfigTree, scale: str) -> dict[str, dict[str, list[RunConfig]]]:
    """Name of a teacher cache -> audience -> the trainings that read it."""
    found: dict[str, dict[str, list[RunConfig]]] = {}
    tiers = get_args(RowTier)
    for row in sorted(load_rows().values(), key=lambda row: tiers.index(row.target)):
        if row.teacher is not None:
            for name, runs in caches_of(load_run(row.id, scale, row.seeds[0])).items():
                found.setdefault(name, {}).setdefault(audience_of(runs[0]), []).extend(runs)
    return found
