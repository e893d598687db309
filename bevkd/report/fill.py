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
from bevkd.report.metrics import metric, of_pairs
from bevkd.report.needs import UNSEEDED, Artefact
from bevkd.report.pairs import attention_likeness, pair_values, partners
from bevkd.report.power import power
from bevkd.report.reference import select
from bevkd.report.runs import Runs, kept_config, not_trained
from bevkd.report.spec import ClaimConfig, Pool, RowSpec, TableConfig, load_claims, pool
from bevkd.report.stats import Interval, paired, sample_std, t_interval
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


def pooled_pairs(
    runs: Runs, which: Pool, other: Pool, split: str, keys: list[str], taught: Pool | None = None
) -> Found:
    """The same of metrics of pairs of runs: of each run of a pool and that which stands at its place in the other.

    Args:
        runs: the finished runs.
        which: the one pool.
        other: the other one.
        split: of the data.
        keys: the metrics.
        taught: pool whose seeds say which ones of the other belong to them, see `partners`; none: `which`.

    Raises:
        DataError: a run lacks a file, the two are not of the same frames, or share no seed.
    """
    found = {
        (i, seed): values
        for i, (run, rival, as_of) in enumerate(zip(*map(pool, (which, other, taught or which)), strict=True))
        for seed, values in pair_values(runs, run, rival, split, keys, as_of).items()
    }
    if not found:
        raise DataError(f"{which!r} and {other!r} share no seed")
    return found


def _group(key: str) -> Artefact | None:
    """The kind of file that a metric comes from, where it is repeated in another way than over seeds of a run."""
    kind = metric(key).file
    return kind if kind in UNSEEDED or of_pairs([key]) else None


def _numbers(spec: TableConfig, row: RowSpec, runs: Runs) -> dict[Artefact | None, Found]:
    """Numbers of a row by how they are repeated: over seeds (None), over pairs of runs, over repeats of a benchmark, or
    not at all.
    """
    groups: dict[Artefact | None, list[str]] = {}
    for column in spec.columns:
        groups.setdefault(_group(column.key), []).append(column.key)
    out: dict[Artefact | None, Found] = {}
    for kind, keys in sorted(groups.items(), key=lambda group: (group[0] or "", group[1])):
        if of_pairs(keys):
            assert row.against is not None  # checked when the table is parsed
            out[kind] = pooled_pairs(runs, row.run, row.against, spec.split, keys)
        else:  # a pool is of one network; the first run's profile stands for all
            out[kind] = pooled(runs, pool(row.run)[:1] if kind == "profile" else row.run, spec.split, keys)
    return out


def _delta(spec: TableConfig, row: RowSpec, runs: Runs) -> Interval | None:
    """The paired difference of a row; of a metric that is one of two runs, the metric itself."""
    if spec.delta is None or row.against is None or not _is_there(spec, runs, row.against):
        return None
    key = spec.delta
    if of_pairs([key]):
        return t_interval([v[key] for v in pooled_pairs(runs, row.run, row.against, spec.split, [key]).values()])
    mine, rival = (
        {k: v[key] for k, v in pooled(runs, which, spec.split, [key]).items()} for which in (row.run, row.against)
    )
    try:
        return paired(mine, rival)
    except ValueError as error:
        raise DataError(f"table {spec.name!r}, row {row.label!r}: {error} with {row.against!r}") from error


def _row(spec: TableConfig, row: RowSpec, runs: Runs, results: Path) -> Row:
    found = _numbers(spec, row, runs)
    paper, notes = published(spec, row)
    values = {}
    for column in spec.columns:
        ours = [v[column.key] for v in found[_group(column.key)].values()]
        values[column.key] = Value(paper[column.key], sum(ours) / len(ours), sample_std(ours))
    delta = _delta(spec, row, runs)
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

    What is gained more in one group than in another is no share of a baseline, and nor is a gain that is printed alone.

    Raises:
        ConfigError: a selector does not fit exactly one published number.
    """
    if claim.published is None:
        return math.nan, math.nan
    sign = 1.0 if metric(claim.metric).higher_is_better else -1.0
    gain, *cells = (select({"paper": claim.paper, **where}).printed for where in claim.published)
    if not cells:
        return gain, math.nan
    if len(cells) == 1:
        return sign * (gain - cells[0]), cells[0]
    return sign * (gain - cells[0] - (cells[1] - cells[2])), math.nan


def _of_group(spec: TableConfig, group: str, runs: Runs) -> Runs:
    """The runs with the seeds that a group shows."""
    if spec.chooses is None:  # all of them
        return runs
    rows = dict(runs.rows)
    for row in spec.rows:
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
    rows, absent = [], []
    for row in spec.rows:
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
    left_out = [*_without_roads(spec, rows, runs), *_without_partner(spec, rows, runs)]
    notes = (*spec.notes, *not_run(absent), *[mixed] * bool(mixed), *left_out)
    found = Table(spec, tuple(rows), notes, context_rows(spec))
    return clipping.remarked(found, runs.rows, lambda run: clipping.measured(runs, run))


def _without_roads(spec: TableConfig, rows: list[Row], runs: Runs) -> list[str]:
    """Why columns of roads are empty, where they are: each reason once."""
    if "gates" not in spec.artefacts:
        return []
    pairs = [(run, seed) for row in rows for run in row.run.split() for seed in runs.row(run).seeds]
    said = dict.fromkeys(runs.read("gates", *pair, spec.split)[0].get("roads_missing") for pair in pairs)
    return [f"No roads are counted: {why}." for why in said if why]


def _without_partner(spec: TableConfig, rows: list[Row], runs: Runs) -> list[str]:
    """What metrics of pairs leave out: seeds without a partner, and frames in which attention is constant."""
    if not of_pairs(column.key for column in spec.columns):
        return []
    specs = spec.planned
    alike = any(metric(column.key).pairs == "likeness" for column in spec.columns)
    found = []
    for row in rows:
        shown, against = _of_group(spec, row.group, runs), specs[row.group, row.role, row.label].against
        for run, other in zip(row.run.split(), pool(against or ()), strict=True):
            seeds, pairs = shown.row(run).seeds, partners(shown, run, other)
            if len(pairs) < len(seeds):
                found.append(f"{len(pairs)} of {len(seeds)} seeds of {run} have a partner in {other}.")
            for seed, theirs in pairs.items() if alike else ():
                known = attention_likeness(shown, (run, seed), (other, theirs), spec.split)
                if known.constant:
                    found.append(
                        f"{run}, seed {seed}: in {known.constant} of {known.frames} frames its attention or that of"
                        f" {other} is constant, and they are left out."
                    )
    return list(dict.fromkeys(found))


def _made(runs: Runs, run: str, seed: int) -> Any:
    file = runs.folder(run, seed) / "provenance.json"
    return read_json(file) if file.exists() else None


def _has_metrics(runs: Runs, which: Pool, split: str) -> bool:
    return all(
        runs.config_file(run).exists() and runs.file("metrics", run, seed, split).exists()
        for run in pool(which)
        for seed in runs.row(run).seeds
    )
