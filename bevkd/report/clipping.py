"""Whether the arms of a comparison had their gradients clipped alike.

A teacher adds to the gradient, so a limit that a student alone seldom reaches may scale most steps of the distilled
one. AdamW forgives a constant factor, not one that comes and goes: the steps of the two are then of unequal length.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache

from bevkd.config import RowConfig
from bevkd.errors import DataError
from bevkd.report.course import read_course
from bevkd.report.runs import Runs
from bevkd.report.spec import pool
from bevkd.report.tables import Table

APART = 0.1  # shares of clipped steps that differ by more are said


def mean_of(shares: Sequence[float | None]) -> float | None:
    """Mean over seeds; None where one is not known."""
    known = [share for share in shares if share is not None]
    return sum(known) / len(known) if known and len(known) == len(shares) else None


def measured(runs: Runs, run: str) -> float | None:
    """Share of the steps of a run that were clipped, mean over its seeds; None where logs do not say."""
    try:
        return mean_of([read_course(runs.file("log", run, seed, "report")).clipped for seed in runs.row(run).seeds])
    except DataError:
        return None  # costs and profiles are of runs that need not have been trained


def remarked(table: Table, rows: Mapping[str, RowConfig], clipped: Callable[[str], float | None]) -> Table:
    """The table with a note on each pair of runs, compared in it, whose shares of clipped steps lie apart.

    Args:
        table: to remark on.
        rows: experiment rows by run id.
        clipped: share of the steps of a run that were clipped; None: not known.
    """
    pairs: dict[tuple[str, str], None] = {}
    for line in table.spec.rows:
        if line.against is not None:
            pairs |= dict.fromkeys(zip(pool(line.run), pool(line.against), strict=False))
    shown = {run for row in table.rows for run in row.run.split()}
    clipped = cache(clipped)  # a baseline comes once with every arm
    notes = []
    for run, rival in pairs:
        if run not in shown:
            continue
        mine, theirs = clipped(run), clipped(rival)
        if mine is not None and theirs is not None and abs(mine - theirs) > APART:
            notes.append(f"{run} {100 * mine:.0f} %, {rival} {100 * theirs:.0f} %")
    if not notes:
        return table
    said = "Gradients were clipped unequally, so that steps may differ in length; share of clipped steps: "
    return replace(table, notes=(*table.notes, f"{said}{'; '.join(notes)}."))
