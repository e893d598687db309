"""What a run waits for: the teacher that it learns from, and the weights that it starts from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from bevkd.config.schema import RowConfig
from bevkd.errors import ConfigError, nearest
from bevkd.names import check_name

Pair = tuple[str, int]  # run id, seed


def find_row(run: str, rows: Mapping[str, RowConfig], where: str = "") -> RowConfig:
    """The row of a run.

    Args:
        run: its id.
        rows: all rows.
        where: who asks for it, for the message.

    Raises:
        ConfigError: there is none; the message names the nearest one.
    """
    check_name(run, f"{where}: run" if where else "run")
    if run not in rows:
        said = f"{where}: " if where else ""
        raise ConfigError(f"{said}unknown run {run!r}{nearest(run, rows)}; `bevkd list runs` names all")
    return rows[run]


def needed_by(row: RowConfig, seed: int) -> list[Pair]:
    """(run, seed) pairs that must be trained before a seed of a row."""
    out = [(row.teacher, row.teacher_seed_for(seed))] if row.teacher is not None else []
    return out + [(init.run, row.init_seed_for(init, seed)) for init in row.inits]


def with_needed(pairs: Iterable[Pair], rows: Mapping[str, RowConfig]) -> list[Pair]:
    """The pairs and everything that they wait for, directly or through others, without repetition."""
    out: dict[Pair, None] = {}
    waiting = list(pairs)
    for pair in waiting:
        if pair not in out:
            out[pair] = None
            waiting += needed_by(rows[pair[0]], pair[1])
    return list(out)


def awaited(rows: Mapping[str, RowConfig]) -> set[str]:
    """Runs that others wait for."""
    return {run for run, others in waiting(rows).items() if others}


def waiting(rows: Mapping[str, RowConfig]) -> dict[str, int]:
    """For each run how many trainings stand one after the other in the longest chain that waits for it."""
    after: dict[str, set[str]] = {run: set() for run in rows}
    for run, row in rows.items():
        for seed in row.seeds:
            for other, _ in needed_by(row, seed):
                after.setdefault(other, set()).add(run)
    out: dict[str, int] = {}

    def longest(run: str) -> int:
        if run not in out:
            out[run] = max((1 + longest(other) for other in after.get(run, ())), default=0)
        return out[run]

    for run in after:
        longest(run)
    return out


def check_chains(chosen: Mapping[str, RowConfig], rows: Mapping[str, RowConfig], where: str) -> None:
    """Teachers and starting weights of some rows exist, with the seeds asked for, and no run waits for itself.

    Args:
        chosen: the rows to look at.
        rows: all rows.
        where: the file of those that are looked at, for messages.

    Raises:
        ConfigError: one does not.
    """
    for run, row in chosen.items():
        place = f"{where}: run {run!r}"
        starts = (("init", init.run) for init in row.inits)
        tuned = row.method.factor_from if row.method is not None else ""
        for what, other in (("teacher", row.teacher), *starts, ("method.factor_from", tuned or None)):
            if other is not None and other not in rows:
                raise ConfigError(f"{place}: unknown {what} run {other!r}{nearest(other, rows)}")
        for seed in row.seeds:
            for other, needed in needed_by(row, seed):
                if needed not in rows[other].seeds:
                    what = "teacher" if (other, needed) == (row.teacher, row.teacher_seed_for(seed)) else "init"
                    raise ConfigError(f"{place}: {what} {other!r} has no seed {needed}")
        if row.teacher is not None and row.method is None:
            raise ConfigError(f"{place}: a teacher needs a method")
        _check_circle(run, rows, place)


def _check_circle(run: str, rows: Mapping[str, RowConfig], place: str) -> None:
    seen, waiting = set[str](), [run]
    for name in waiting:
        row = rows[name]
        needed = {other for seed in row.seeds for other, _ in needed_by(row, seed) if other in rows}
        if run in needed:
            raise ConfigError(f"{place} waits for itself, through teachers or starting weights")
        waiting += sorted(needed - seen)
        seen |= needed


def first_seeds(rows: Mapping[str, RowConfig], count: int) -> dict[str, RowConfig]:
    """The rows with at most `count` seeds each, and those that others learn or start from; 0: all as they are."""
    if count == 0:
        return dict(rows)
    kept = set(with_needed([(run, seed) for run, row in rows.items() for seed in row.seeds[:count]], rows))
    return {run: replace(row, seeds=tuple(s for s in row.seeds if (run, s) in kept)) for run, row in rows.items()}
