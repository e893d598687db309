"""Tables filled from finished runs."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

from bevkd.errors import DataError
from bevkd.io import write_if_other
from bevkd.report import clipping
from bevkd.report.metrics import metric
from bevkd.report.runs import Runs, kept_config, not_trained
from bevkd.report.spec import UNSEEDED, Artefact, Pool, RowSpec, TableConfig, pool
from bevkd.report.stats import paired, sample_std
from bevkd.report.tables import (
    Row,
    Table,
    Value,
    context_rows,
    factor_of,
    not_run,
    protocol_text,
    published,
    seeds_text,
)

logger = logging.getLogger(__name__)
Found = dict[tuple[int, int], dict[str, float]]


def pooled(runs: Runs, which: Pool, split: str, keys: list[str]) -> Found:
    """Metrics per (position in the pool, repetition); the keys are repeated in the same way, see `Runs.values`."""
    return {
        (i, repetition): values
        for i, run in enumerate(pool(which))
        for repetition, values in runs.values(run, split, keys).items()
    }


def _numbers(spec: TableConfig, which: Pool, runs: Runs) -> dict[Artefact | None, Found]:
    """Numbers of a row by how they are repeated: over seeds (None), over repeats of a benchmark, or not at all."""
    groups: dict[Artefact | None, list[str]] = {}
    for column in spec.columns:
        kind = metric(column.key).file
        groups.setdefault(kind if kind in UNSEEDED else None, []).append(column.key)
    # A pool is of one network; the first run's profile stands for all.
    return {
        kind: pooled(runs, pool(which)[:1] if kind == "profile" else which, spec.split, keys)
        for kind, keys in sorted(groups.items(), key=lambda group: (group[0] or "", group[1]))
    }


def _row(spec: TableConfig, row: RowSpec, runs: Runs, results: Path) -> Row:
    found = _numbers(spec, row.run, runs)
    paper, notes = published(spec, row)
    values = {}
    for column in spec.columns:
        kind = metric(column.key).file
        ours = [v[column.key] for v in found[kind if kind in UNSEEDED else None].values()]
        values[column.key] = Value(paper[column.key], sum(ours) / len(ours), sample_std(ours))
    delta = None
    if spec.delta is not None and row.against is not None and _is_there(spec, runs, row.against):
        mine, rival = (
            {k: v[spec.delta] for k, v in pooled(runs, which, spec.split, [spec.delta]).items()}
            for which in (row.run, row.against)
        )
        try:
            delta = paired(mine, rival)
        except ValueError as error:
            raise DataError(f"table {spec.name!r}, row {row.label!r}: {error} with {row.against!r}") from error
    ids = pool(row.run)
    seeds = seeds_text(spec, row.group, ids, runs.rows)
    links = " ".join(publish_config(runs, run, results) for run in ids)
    n = len(next(iter(found.values())))  # of seeds, where there are any
    protocol = protocol_text(ids, {run: runs.config(run).row for run in ids})  # as they were trained
    factor = factor_of(ids, runs.rows)
    return Row(row.group, row.role, row.label, " ".join(ids), values, delta, n, seeds, links, protocol, notes, factor)


def _of_group(spec: TableConfig, group: str, runs: Runs) -> Runs:
    """The runs with the seeds that a group shows."""
    rows = dict(runs.rows)
    for row in spec.row_specs(runs.rows):
        if row.group == group:
            for run in (*pool(row.run), *pool(row.against or ())):
                rows[run] = replace(rows[run], seeds=spec.shown_seeds(group, run, runs.rows))
    return replace(runs, rows=rows)


def _is_there(spec: TableConfig, runs: Runs, which: Pool) -> bool:
    """Whether to read runs: also those that are missing, for the error, unless the table is one of trials."""
    return spec.target != "tuning" or _has_metrics(runs, which, spec.split)


def publish_config(runs: Runs, run: str, results: Path) -> str:
    """Copy a run's resolved config beside the tables: run folders are not kept in git, links must not dangle.

    Returns:
        The copy, relative to the results folder.
    """
    source = runs.config_file(run)
    if not source.exists():
        raise DataError(not_trained(runs, run, runs.row(run).seeds[0]), file=source)
    target = kept_config(results, run)
    write_if_other(target, source.read_text(encoding="utf-8"))
    return target.relative_to(results).as_posix()


def fill(spec: TableConfig, runs: Runs, results: Path) -> Table:
    """Read every number of a table.

    A table of tier `tuning` shows what has been run and names the rest; any other table wants all its runs.

    Raises:
        ConfigError: a run is unknown, or a selector does not fit exactly one published number.
        DataError: a run is missing or its metrics are unusable; the message names run and file.
    """
    spec.needs(runs.rows)
    wanted = spec.row_specs(runs.rows)
    rows, absent = [], []
    for row in wanted:
        if not _is_there(spec, shown := _of_group(spec, row.group, runs), row.run):
            absent.append(row)
            continue
        rows.append(_row(spec, row, shown, results))
    if not rows:
        raise DataError(f"table {spec.name!r}: none of its runs has metrics", file=runs.root / runs.scale)
    if absent:
        logger.warning("table %s: %d tuning runs have no metrics. %s", spec.name, len(absent), not_run(absent)[0])
    found = Table(spec, tuple(rows), (*spec.notes, *not_run(absent)), context_rows(spec))
    return clipping.remarked(found, runs.rows, lambda run: clipping.measured(runs, run))


def _has_metrics(runs: Runs, which: Pool, split: str) -> bool:
    return all(
        runs.config_file(run).exists() and runs.file("metrics", run, seed, split).exists()
        for run in pool(which)
        for seed in runs.row(run).seeds
    )
