"""Tables: published and own numbers side by side, as CSV (the data), Markdown and LaTeX (to read)."""

from __future__ import annotations

import csv
import io
import logging
import math
from dataclasses import dataclass
from pathlib import Path

from bevkd.errors import DataError
from bevkd.io import write_text
from bevkd.report.metrics import Runs
from bevkd.report.reference import select
from bevkd.report.spec import Pool, RowSpec, TableConfig, pool
from bevkd.report.stats import Interval, paired, sample_std

logger = logging.getLogger(__name__)

_HEAD = ("group", "role", "row", "run")
_TAIL = ("n", "seeds", "config")


@dataclass(frozen=True)
class Value:
    """One cell: published and own number in printed units; NaN where the paper prints none, or n < 2 for `std`."""

    paper: float
    ours: float
    std: float


@dataclass(frozen=True)
class Row:
    """One row: `config` is the resolved config, relative to the results folder; `delta` the paired difference."""

    group: str
    role: str
    label: str
    run: str
    values: dict[str, Value]
    delta: Interval | None
    n: int
    seeds: str
    config: str


@dataclass(frozen=True)
class Table:
    """A filled table."""

    spec: TableConfig
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()


def pooled(runs: Runs, which: Pool, split: str, keys: list[str]) -> dict[tuple[int, int], dict[str, float]]:
    """Metrics per (position in the pool, seed)."""
    return {
        (i, seed): values for i, run in enumerate(pool(which)) for seed, values in runs.values(run, split, keys).items()
    }


def _row(spec: TableConfig, row: RowSpec, runs: Runs, results: Path) -> Row:
    keys = [column.key for column in spec.columns]
    found = pooled(runs, row.run, spec.split, keys)
    values = {}
    for column in spec.columns:
        ours = [v[column.key] for v in found.values()]
        paper = math.nan
        if column.printed_for(row):
            assert row.published is not None
            paper = select({**spec.published, **column.selector, **row.published}).value
        values[column.key] = Value(paper, sum(ours) / len(ours), sample_std(ours))
    delta = None
    if spec.delta is not None and row.against is not None:
        rival = pooled(runs, row.against, spec.split, [spec.delta])
        mine = {k: v[spec.delta] for k, v in found.items()}
        try:
            delta = paired(mine, {k: v[spec.delta] for k, v in rival.items()})
        except ValueError as error:
            raise DataError(f"table {spec.name!r}, row {row.label!r}: {error} with {row.against!r}") from error
    ids = pool(row.run)
    repeated = spec.artefact == "cost"  # of one seed
    seeds = "; ".join(",".join(str(s) for s in runs.row(run).seeds[: 1 if repeated else None]) for run in ids)
    links = [_publish_config(runs, run, results) for run in ids]
    return Row(row.group, row.role, row.label, " ".join(ids), values, delta, len(found), seeds, " ".join(links))


def _publish_config(runs: Runs, run: str, results: Path) -> str:
    """Copy a run's resolved config beside the tables: run folders are not kept in git, links must not dangle."""
    source = runs.config_file(run)
    if not source.exists():
        raise DataError(f"run {run!r} has not been trained: its resolved config is missing", file=source)
    relative = f"configs/{run}.yaml"
    text = source.read_text(encoding="utf-8")
    target = results / relative
    if not target.exists() or target.read_text(encoding="utf-8") != text:
        write_text(target, text)
    return relative


def fill(spec: TableConfig, runs: Runs, results: Path) -> Table:
    """Read every number of a table.

    A table of `tuning` rows shows those that have been run and names the others; any other table wants all its runs.

    Raises:
        ConfigError: a run is unknown, or a selector does not fit exactly one published number.
        DataError: a run is missing or its metrics are unusable; the message names run and file.
    """
    spec.needs(runs.rows)
    wanted = spec.row_specs(runs.rows)
    rows, absent = [], []
    for row in wanted:
        if spec.rows == "tuning" and not _has_metrics(runs, row, spec.split):
            absent.append(str(row.run))
            continue
        rows.append(_row(spec, row, runs, results))
    if not rows:
        raise DataError(f"table {spec.name!r}: none of its runs has metrics", file=runs.root / runs.scale)
    if absent:
        logger.warning("table %s: %d tuning runs have no metrics: %s", spec.name, len(absent), ", ".join(absent))
    notes = (*spec.notes, *([f"Not run: {', '.join(absent)}."] if absent else []))
    return Table(spec, tuple(rows), notes)


def _has_metrics(runs: Runs, row: RowSpec, split: str) -> bool:
    return all(
        runs.config_file(run).exists() and runs.metrics_file(run, seed, split).exists()
        for run in pool(row.run)
        for seed in runs.row(run).seeds
    )


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.4f}"


def header(spec: TableConfig) -> list[str]:
    """Column names of the CSV file."""
    names = list(_HEAD)
    for column in spec.columns:
        names += [f"{column.key}_paper", f"{column.key}_ours", f"{column.key}_std"]
    if spec.delta is not None:
        names += [f"{spec.delta}_delta", f"{spec.delta}_delta_low", f"{spec.delta}_delta_high"]
    return [*names, *_TAIL]


def to_csv(table: Table) -> str:
    """The table as CSV: one line per row; `<metric>_paper`, `<metric>_ours`, `<metric>_std`, `n`."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(header(table.spec))
    for row in table.rows:
        cells = [row.group, row.role, row.label, row.run]
        for column in table.spec.columns:
            value = row.values[column.key]
            cells += [_number(value.paper), _number(value.ours), _number(value.std)]
        if table.spec.delta is not None:
            d = row.delta
            cells += ["", "", ""] if d is None else [_number(d.mean), _number(d.low), _number(d.high)]
        writer.writerow([*cells, str(row.n), row.seeds, row.config])
    return stream.getvalue()


def from_csv(spec: TableConfig, path: Path) -> Table:
    """Read back what `to_csv` wrote, for the report.

    Raises:
        DataError: the file is missing or its columns are not those of the table.
    """
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            reader = csv.DictReader(stream)
            records = list(reader)
    except FileNotFoundError:
        raise DataError(f"table {spec.name!r} has not been made", file=path) from None
    if list(reader.fieldnames or ()) != header(spec):
        raise DataError(f"columns are not those of table {spec.name!r}", file=path)

    def number(record: dict[str, str], name: str) -> float:
        try:
            return float(record[name]) if record[name] else math.nan
        except ValueError:
            raise DataError(f"not a number: {record[name]!r}", file=path, field=name) from None

    rows = []
    for record in records:
        values = {
            c.key: Value(*(number(record, f"{c.key}_{part}") for part in ("paper", "ours", "std")))
            for c in spec.columns
        }
        delta, n = None, int(record["n"])
        if spec.delta is not None and record[f"{spec.delta}_delta"]:
            parts = [number(record, f"{spec.delta}_delta{end}") for end in ("", "_low", "_high")]
            delta = Interval(parts[0], parts[1], parts[2], n)
        place = (record["group"], record["role"], record["row"], record["run"])
        rows.append(Row(*place, values, delta, n, record["seeds"], record["config"]))
    return Table(spec, tuple(rows), spec.notes)


def write(table: Table, folder: Path) -> list[Path]:
    """Write `<name>.csv`, `.md` and `.tex` into a folder and return their paths."""
    from bevkd.report.render import to_latex, to_markdown

    out = []
    for ending, text in (("csv", to_csv(table)), ("md", to_markdown(table)), ("tex", to_latex(table))):
        path = folder / f"{table.spec.name}.{ending}"
        write_text(path, text)
        out.append(path)
    return out
