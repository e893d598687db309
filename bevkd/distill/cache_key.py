"""What a teacher cache is called: a digest of all that its contents depend on, known without a tensor library."""

from __future__ import annotations

from bevkd.config import DataConfig, RunConfig, identity, load_rows, load_run
from bevkd.config.identity import field_facts, settings_read
from bevkd.config.marks import ReadFor
from bevkd.data.reads import reads_of
from bevkd.distill.settings import method_settings
from bevkd.errors import ConfigError
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
    return load_run(run.row.teacher, run.scale, run.row.teacher_seed)


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
    content = {
        "teacher": identity(teacher),
        "wanted": method_settings(row.method).cached().key,
        "frames": [row.frames, row.labelled_subset, run.train.frames_limit, row.teacher_batch],
        "data": {name: value for name, value in data.items() if name not in OF_NETWORK},
        "grid": settings_read(run.model.grid, ()),
        "precision": run.train.precision,
    }
    return f"{row.teacher}_seed{row.teacher_seed}_{digest(content)}"


def readers_of(run: RunConfig) -> list[RunConfig]:
    """Every training of the configuration, with every of its seeds, that reads the teacher cache of a run.

    Raises:
        ConfigError: the run has no teacher or no method.
    """
    name, out = cache_name(run), list[RunConfig]()
    for row in load_rows().values():
        if row.teacher != run.row.teacher:
            continue
        runs = [load_run(row.id, run.scale, seed) for seed in row.seeds]
        out += [one for one in runs if one.row.teacher_mode == "cached" and cache_name(one) == name]
    return out
