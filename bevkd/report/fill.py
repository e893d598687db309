"""Tables filled from finished runs."""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from bevkd.errors import ConfigError, DataError, nearest
from bevkd.io import read_json, write_if_other
from bevkd.report import clipping
from bevkd.report.machines import mixture
from bevkd.report.metrics import metric
from bevkd.report.power import power
from bevkd.report.reference import select
from bevkd.report.runs import Runs, kept_config, not_trained
from bevkd.report.spec import UNSEEDED, Artefact, ClaimConfig, Pool, RowSpec, TableConfig, load_claims, pool
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
    known = None
    if spec.power and delta is not None and row.against is not None:
        known = power(delta, spec.power, _wanted(spec, row, runs))
    name, factor = " ".join(ids), factor_of(ids, runs.rows)
    return Row(row.group, row.role, row.label, name, values, delta, n, seeds, links, protocol, known, notes, factor)


def _wanted(spec: TableConfig, row: RowSpec, runs: Runs) -> float:
    """The half-width that a row aims at, in printed units; NaN where it says none."""
    aim = (spec.aims or {}).get(" ".join(pool(row.run)), math.nan)
    if not isinstance(aim, str):
        return aim
    claims = load_claims(runs.scale)
    if aim not in claims:
        raise ConfigError(f"table {spec.name!r}, row {row.label!r}: aim: no claim {aim!r}{nearest(aim, claims)}")
    gain = relative_gain(claims[aim])
    if math.isnan(gain):
        raise ConfigError(f"table {spec.name!r}, row {row.label!r}: aim: claim {aim!r} has no published gain")
    assert row.against is not None  # checked, as is the delta, when the table is parsed
    assert spec.delta is not None
    ours = [v[spec.delta] for v in pooled(runs, row.against, spec.split, [spec.delta]).values()]
    return abs(gain) * sum(ours) / len(ours) / 3


def relative_gain(claim: ClaimConfig) -> float:
    """Published improvement as a share of the published baseline; NaN where none is printed.

    Raises:
        ConfigError: a selector does not fit exactly one published number.
    """
    gain, baseline = published_gain(claim)
    return gain / baseline if baseline else math.nan


def published_gain(claim: ClaimConfig) -> tuple[float, float]:
    """Published improvement, positive where the arm is better, and published baseline; NaN where none is printed.

    Raises:
        ConfigError: a selector does not fit exactly one published number.
    """
    if claim.published is None:
        return math.nan, math.nan
    sign = 1.0 if metric(claim.metric).higher_is_better else -1.0
    cells = [select({"paper": claim.paper, **where}).value for where in claim.published]
    return sign * (cells[0] - cells[1]), cells[1]


def _of_group(spec: TableConfig, group: str, runs: Runs) -> Runs:
    """The runs with the seeds that a group shows."""
    if spec.chooses is None:  # all of them
        return runs
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
    mixed = mixture(_made(runs, run, seed) for row in rows for run in row.run.split() for seed in runs.row(run).seeds)
    if mixed:
        logger.warning("table %s: %s", spec.name, mixed)
    notes = (*spec.notes, *not_run(absent), *[mixed] * bool(mixed))
    found = Table(spec, tuple(rows), notes, context_rows(spec))
    return clipping.remarked(found, runs.rows, lambda run: clipping.measured(runs, run))


def _made(runs: Runs, run: str, seed: int) -> Any:
    file = runs.folder(run, seed) / "provenance.json"
    return read_json(file) if file.exists() else None


def _has_metrics(runs: Runs, which: Pool, split: str) -> bool:
    return all(
        runs.config_file(run).exists() and runs.file("metrics", run, seed, split).exists()
        for run in pool(which)
        for seed in runs.row(run).seeds
    )
