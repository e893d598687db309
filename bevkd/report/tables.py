"""Filled tables: published and own numbers side by side, and their CSV files."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from bevkd.config import RowConfig
from bevkd.config.protocols import protocols_of_row
from bevkd.report.frames import read_csv
from bevkd.report.metrics import of_groups_alone
from bevkd.report.needs import UNSEEDED
from bevkd.report.power import Power
from bevkd.report.reference import select
from bevkd.report.spec import ContextSpec, RowSpec, TableConfig, pool
from bevkd.report.stats import Interval

_HEAD = ("group", "role", "row", "run")
_TAIL = ("n", "seeds", "config", "protocol")
CONTEXT = "context"  # the role of published rows without a run of ours


@dataclass(frozen=True)
class Value:
    """One cell: published and own number in printed units; NaN where the paper prints none, or n < 2 for `std`."""

    paper: float
    ours: float = math.nan
    std: float = math.nan


@dataclass(frozen=True)
class Row:
    """One row.

    Attributes:
        values: cells by metric.
        delta: the paired difference.
        n: repetitions behind `ours`; 0: none of ours.
        config: resolved configs, relative to the results folder.
        power: what the differences say of numbers of seeds, in a table of power.
        protocol: how its runs are trained, see `bevkd.config.protocols`; several are joined by +.
        notes: what is to be said of a published cell, by metric.
        factor: of the losses of its method; None without one.
    """

    group: str
    role: str
    label: str
    run: str
    values: dict[str, Value]
    delta: Interval | None = None
    n: int = 0
    seeds: str = ""
    config: str = ""
    protocol: str = ""
    power: Power | None = None
    notes: dict[str, str] = field(default_factory=dict)
    factor: float | None = None


@dataclass(frozen=True)
class Table:
    """A filled table; `context` are published rows without a run of ours."""

    spec: TableConfig
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    context: tuple[Row, ...] = ()


def seeds_text(spec: TableConfig, group: str, runs: Iterable[str], rows: Mapping[str, RowConfig]) -> str:
    """The seeds behind a row of a group, run by run: the first one where no column comes from several."""
    last = 1 if set(spec.artefacts) <= UNSEEDED else None
    return "; ".join(",".join(map(str, spec.shown_seeds(group, run, rows)[:last])) for run in runs)


def factor_of(runs: Iterable[str], rows: Mapping[str, RowConfig]) -> float | None:
    """Factor of the losses of some runs of one method; None without a method, or of runs that are no more."""
    methods = [row.method for run in runs if (row := rows.get(run)) is not None]
    return methods[0].factor if methods and methods[0] is not None else None


def published(spec: TableConfig, row: RowSpec | ContextSpec) -> tuple[dict[str, float], dict[str, str]]:
    """What the paper prints in a row, NaN where it prints nothing, and notes on these cells, both by metric.

    Raises:
        ConfigError: a selector does not fit exactly one published number.
    """
    values, notes = {}, {}
    for column in spec.columns:
        values[column.key] = math.nan
        if column.printed_for(row):
            assert row.published is not None
            cell = select({**spec.published, **column.selector, **row.published})
            values[column.key] = cell.printed
            if cell.note:
                notes[column.key] = cell.note
    return values, notes


def context_rows(spec: TableConfig) -> tuple[Row, ...]:
    """The published rows without a run of ours.

    Raises:
        ConfigError: a selector does not fit exactly one published number.
    """
    out = []
    for row in spec.context:
        values, notes = published(spec, row)
        cells = {key: Value(value) for key, value in values.items()}
        out.append(Row(row.group, CONTEXT, row.label, "", cells, notes=notes))
    return tuple(out)


def header(spec: TableConfig) -> list[str]:
    """Column names of the CSV file."""
    return [*_HEAD, *_numbers(spec), *_needed(spec), *_TAIL]


def _needed(spec: TableConfig) -> list[str]:
    return ["seeds_needed"] if spec.power else []


def _numbers(spec: TableConfig) -> list[str]:
    names = [name for column in spec.columns for name in _of_column(column.key)]
    names += [f"{spec.delta}_delta{end}" for end in ("", "_low", "_high") if spec.delta is not None]
    return names + (["sd", *(f"half_width_{n}" for n in spec.power), "wanted"] if spec.power else [])


def _of_column(key: str) -> list[str]:
    return [f"{key}_{part}" for part in ("paper", "ours", "std")]


def to_frame(table: Table) -> pd.DataFrame:
    """One line per row; `<metric>_paper`, `<metric>_ours`, `<metric>_std`, `n`. Context comes last."""
    lines: list[dict[str, Any]] = []
    spec = table.spec
    for row in (*table.rows, *table.context):
        line: dict[str, Any] = dict(zip(_HEAD, (row.group, row.role, row.label, row.run), strict=True))
        for key, value in row.values.items():
            line |= {f"{key}_paper": value.paper, f"{key}_ours": value.ours, f"{key}_std": value.std}
        if table.spec.delta is not None and row.delta is not None:
            ends = {"": row.delta.mean, "_low": row.delta.low, "_high": row.delta.high}
            line |= {f"{table.spec.delta}_delta{end}": number for end, number in ends.items()}
        if spec.power:
            line["seeds_needed"] = 0
        if row.power is not None:
            line |= {"sd": row.power.sd, "wanted": row.power.wanted, "seeds_needed": row.power.needed}
            line |= {f"half_width_{n}": value for n, value in row.power.half_widths.items()}
        lines.append(line | dict(zip(_TAIL, (row.n, row.seeds, row.config, row.protocol), strict=True)))
    return pd.DataFrame(lines, columns=header(table.spec)).astype(dict.fromkeys(_numbers(table.spec), "float64"))


def not_run(rows: Iterable[RowSpec]) -> tuple[str, ...]:
    """The note that names the rows which a table of tuning runs lacks."""
    names = [" ".join(pool(row.run)) for row in rows]
    return (f"Not run: {', '.join(names)}.",) if names else ()


def read(spec: TableConfig, path: Path, rows: Mapping[str, RowConfig]) -> Table:
    """A table from its CSV file; notes come from the published numbers and the experiment rows.

    How much the groups of a table rest on (`frames`, `boxes`, `mAP_present`) an older file may not say: it has fewer
    columns then.

    Args:
        spec: what the table shows.
        path: the CSV file.
        rows: experiment rows by run id, of which a table of tuning runs names those that it lacks.

    Raises:
        ConfigError: a selector does not fit exactly one published number.
        ColumnsError: the columns are not those of the table.
        DataError: the file is missing or damaged.
    """
    said_later = [column.key for column in spec.columns if of_groups_alone(column.key)]
    newer = ["protocol", *(name for key in said_later for name in _of_column(key))]
    frame = read_csv(path, f"table {spec.name!r}", header(spec), _numbers(spec), ["n", *_needed(spec)], newer)
    unsaid = [key for key in said_later if frame[f"{key}_ours"].isna().all()]
    spec = replace(spec, columns=tuple(column for column in spec.columns if column.key not in unsaid))
    known = spec.planned
    found = tuple(_row(spec, line, known, rows) for line in frame[frame["role"] != CONTEXT].to_dict("records"))
    shown = {row.run for row in found}
    absent = [row for row in spec.rows if spec.target == "tuning" and " ".join(pool(row.run)) not in shown]
    return Table(spec, found, (*spec.notes, *not_run(absent)), context_rows(spec))


def protocol_text(runs: Iterable[str], rows: Mapping[str, RowConfig]) -> str:
    """The protocols of some runs' rows, joined by +, those that are known."""
    return "+".join(dict.fromkeys(one for run in runs if run in rows for one in protocols_of_row(rows[run])))


def _row(
    spec: TableConfig,
    line: Mapping[Any, Any],
    known: Mapping[tuple[str, str, str], RowSpec],
    rows: Mapping[str, RowConfig],
) -> Row:
    values = {c.key: Value(line[f"{c.key}_paper"], line[f"{c.key}_ours"], line[f"{c.key}_std"]) for c in spec.columns}
    delta, place = None, (line["group"], line["role"], line["row"])
    if spec.delta is not None and not math.isnan(line[f"{spec.delta}_delta"]):
        mean, low, high = (line[f"{spec.delta}_delta{end}"] for end in ("", "_low", "_high"))
        delta = Interval(mean, low, high, line["n"])
    notes = published(spec, known[place])[1] if place in known else {}
    protocol = line["protocol"] or protocol_text(line["run"].split(), rows)
    power = None
    if spec.power and delta is not None:
        widths = {n: line[f"half_width_{n}"] for n in spec.power}
        power = Power(line["sd"], widths, line["wanted"], line["seeds_needed"])
    return Row(
        *place,
        run=line["run"],
        values=values,
        delta=delta,
        n=line["n"],
        seeds=line["seeds"],
        config=line["config"],
        protocol=protocol,
        power=power,
        notes=notes,
        factor=factor_of(line["run"].split(), rows),
    )
