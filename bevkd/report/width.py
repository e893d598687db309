"""Whether the intervals of a table are as narrow as they were meant to be (docs/protocols.md, rule 2)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from bevkd.report.fill import relative_gain
from bevkd.report.metrics import metric
from bevkd.report.spec import ClaimConfig, pool
from bevkd.report.tables import Table


def remarked(table: Table, claims: Iterable[ClaimConfig]) -> Table:
    """The table with a note on the differences whose interval is wider than a third of the published relative gain each
    way, of our baseline's mean: what they could have told, and what they were to tell.

    Args:
        table: to remark on.
        claims: which of its differences have a published gain.
    """
    spec = table.spec
    wide = list(dict.fromkeys(_wide(table, claims))) if spec.delta is not None and spec.split == "report" else []
    if not wide:
        return table
    assert spec.delta is not None
    note = (
        f"Half of the interval of Δ {spec.delta} is wider than a third of the published relative gain (in brackets),"
        f" which then may not be told from 0: {'; '.join(wide)}."
    )
    return replace(table, notes=(*table.notes, note))


def _wide(table: Table, claims: Iterable[ClaimConfig]) -> Iterator[str]:
    spec = table.spec
    assert spec.delta is not None
    shown = metric(spec.delta).shown
    asked = {
        (pool(claim.better), pool(claim.than)): abs(relative_gain(claim))
        for claim in claims
        if claim.metric == spec.delta and claim.split == spec.split and claim.published is not None
    }
    planned = spec.planned
    means = {row.run: row.values[spec.delta].ours for row in table.rows}
    for row in table.rows:
        plan = planned.get((row.group, row.role, row.label))
        if row.delta is None or plan is None or plan.against is None:
            continue
        share = asked.get((pool(plan.run), pool(plan.against)))
        baseline = means.get(" ".join(pool(plan.against)))
        if not share or baseline is None:
            continue
        half, wanted = (row.delta.high - row.delta.low) / 2, share * baseline / 3
        if half > wanted:
            yield f"{row.label} ±{shown.text(half)} (±{shown.text(wanted)})"
