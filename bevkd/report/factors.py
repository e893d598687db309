"""One rule for the factor of every method's losses: tried on the `tune` split, chosen by what is written here.

Of `FACTORS`, that with the best mean of the main metric over the tuning seeds is *the best*. Of the factors whose mean
lies within one standard error of its mean (the sample standard deviation of the best over the root of n), the one
nearest to 1, the published weights, is *chosen*: distance is counted in places of the list, and of two as near the one
with the better mean is taken. All factors must have been tried, with the same seeds, at least two of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby

from bevkd.report.metrics import metric
from bevkd.report.tables import Row, Table

FACTORS = (0.1, 0.3, 1.0, 3.0)
PUBLISHED = 1.0


@dataclass(frozen=True)
class Trial:
    """Mean and sample standard deviation of a metric over n seeds; more is better."""

    mean: float
    std: float
    n: int


def choose(trials: Mapping[float, Trial]) -> float:
    """The factor that the rule chooses.

    Raises:
        ValueError: the trials do not suffice; the message says why.
    """
    if absent := [factor for factor in FACTORS if factor not in trials]:
        raise ValueError(f"{', '.join(said(factor) for factor in absent)}: not run")
    if more := [factor for factor in trials if factor not in FACTORS]:
        raise ValueError(f"{', '.join(said(factor) for factor in more)}: not among the factors of the rule")
    counts = {trial.n for trial in trials.values()}
    if len(counts) > 1 or min(counts) < 2:
        raise ValueError("a choice needs the same seeds of all factors, at least two")
    best = max(trials.values(), key=lambda trial: trial.mean)
    reach = best.mean - best.std / math.sqrt(best.n)
    near = [factor for factor in FACTORS if trials[factor].mean >= reach]
    return min(near, key=lambda factor: (_places(factor), -trials[factor].mean))


def _places(factor: float) -> int:
    return abs(FACTORS.index(factor) - FACTORS.index(PUBLISHED))


def said(factor: float) -> str:
    """`losses ×0.3`."""
    return f"losses ×{factor:g}"


@dataclass(frozen=True)
class Choice:
    """What the rule says of a group of a table.

    Attributes:
        group: of the table.
        runs: the runs that were tried.
        factor: that is chosen; None: nothing is, for a `reason`.
        reason: why.
    """

    group: str
    runs: tuple[str, ...]
    factor: float | None
    reason: str = ""


def choices(table: Table) -> list[Choice]:
    """What the rule says of each group of a table that chooses factors; nothing of any other table."""
    if table.spec.chooses != "factor":
        return []
    key = str(table.spec.delta)  # checked when the table is parsed
    sign = 1.0 if metric(key).higher_is_better else -1.0
    out = []
    for group, members in groupby(table.rows, key=lambda row: row.group):
        tried = {row.factor: row for row in members if row.factor is not None}
        runs = tuple(run for row in tried.values() for run in row.run.split())
        trials = {factor: Trial(sign * r.values[key].ours, r.values[key].std, r.n) for factor, r in tried.items()}
        try:
            out.append(Choice(group, runs, choose(trials)))
        except ValueError as error:
            out.append(Choice(group, runs, None, str(error)))
    return out


def row_name(table: Table, row: Row) -> str:
    """The label of a row, with the factor of its losses unless that is the published one, and whether it is chosen."""
    if row.factor is None:
        return row.label
    name = row.label
    if row.factor != PUBLISHED and said(row.factor) not in name:
        name += f", {said(row.factor)}"
    chosen = {choice.group: choice.factor for choice in choices(table)}
    return f"{name} (chosen)" if row.factor == chosen.get(row.group) else name


def remarks(table: Table) -> list[str]:
    """What is to be said below a table of its factors."""
    out = []
    if any(row.factor not in (None, PUBLISHED) for row in table.rows):
        out.append(
            "Losses ×f: all losses of the method count f times as much as with its published weights, which are ×1."
        )
    found = choices(table)
    if found:
        tried = ", ".join(f"{factor:g}" for factor in FACTORS)
        out.append(
            f"Chosen, by one rule for all methods: of the factors {tried} that with the best mean {table.spec.delta},"
            " or one within a standard error of it that is nearer to 1."
        )
    open_ = [f"{choice.group or table.spec.title} ({choice.reason})" for choice in found if choice.factor is None]
    return [*out, f"Nothing is chosen yet for {'; '.join(open_)}."] if open_ else out
