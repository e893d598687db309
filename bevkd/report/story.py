"""What a reader learns first: each paper's question, its headline comparisons, and what the ledger says of them.

Nothing here is a written finding: every number, count and verdict comes from the ledger, so that no sentence outlives
its result. Verdicts are those after the correction (`Finding.counted`). What a paper says of itself:
`bevkd.report.pages`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from bevkd.config import RowConfig
from bevkd.report.claims import CONTRADICTED, INCONCLUSIVE, REPRODUCED, Finding
from bevkd.report.metrics import metric, said
from bevkd.report.pages import PaperPage

VERDICTS = (REPRODUCED, CONTRADICTED, INCONCLUSIVE)
_SHOWN = 2  # headlines that a point spells out


@dataclass(frozen=True)
class Headline:
    """A headline comparison that has been tested.

    Attributes:
        label: short name of the comparison.
        paper: folder of its paper.
        finding: its line of the ledger.
        control: what the strongest control is, in words; "" without one.
    """

    label: str
    paper: str
    finding: Finding
    control: str

    def gain(self) -> str:
        """`+1.2 mAP [0.3, 2.1]`: the effect over the baseline."""
        f = self.finding
        return _effect(f.metric, f.effect, f.ci_low, f.ci_high)

    def over_control(self) -> str:
        """The same over the strongest control; "" without one."""
        f = self.finding
        return _effect(f.metric, f.control_effect, f.control_ci_low, f.control_ci_high) if self.control else ""


def _effect(key: str, mean: float, low: float, high: float) -> str:
    shown = metric(key).shown
    unit = said(key).replace("_", " ") if shown.unit == "%" else shown.unit
    return f"{shown.text(mean, sign=True)} {unit} {shown.span(low, high)}"


def headlines(
    pages: Mapping[str, PaperPage], findings: Iterable[Finding], rows: Mapping[str, RowConfig]
) -> list[Headline]:
    """The tested headline comparisons, paper by paper, in the order of their pages."""
    found = {finding.claim: finding for finding in findings}
    return [
        Headline(label, paper, found[claim], control_name(found[claim], rows))
        for paper, page in pages.items()
        for claim, label in page.headline.items()
        if claim in found
    ]


def control_name(finding: Finding, rows: Mapping[str, RowConfig]) -> str:
    """What the strongest control of a finding is, as its experiment row says; "" without one."""
    run = next(iter(finding.control_run.split()), "")
    words = rows[run].doc if run in rows else ""
    return words.removeprefix("control: ").removesuffix(" (control)") or run


@dataclass(frozen=True)
class Point:
    """One thing that the ledger says of the headlines.

    Attributes:
        kind: a verdict.
        items: the headlines that have it, the clearest first; of those left open, what only the correction left so.
        total: number of headlines that were tested.
        also: where a paper has no reproduced headline, the clearest of its other gains in detection quality that is.
    """

    kind: Literal["reproduced", "contradicted", "inconclusive"]
    items: tuple[Headline, ...]
    total: int
    also: tuple[Headline, ...] = ()

    @property
    def shown(self) -> tuple[Headline, ...]:
        """Those that are spelt out."""
        return self.items[:_SHOWN]

    @property
    def corrected(self) -> int:
        """How many have this verdict only after the correction."""
        return sum(bool(item.finding.correction) for item in self.items)


def points(known: Sequence[Headline], others: Sequence[Headline] = ()) -> list[Point]:
    """What is reproduced, what is contradicted and what is left open. Who loses to a control is no point: the ledger
    tests whether a gain holds over controls, not whether they do better.

    `others` are comparisons that are no headlines.
    """

    def having(verdict: str) -> list[Headline]:
        return [item for item in known if item.finding.counted == verdict]

    if not known:
        return []
    good = sorted(having(REPRODUCED), key=lambda item: -item.finding.ci_low)
    bad = sorted(having(CONTRADICTED), key=lambda item: item.finding.ci_high)
    out = [Point("reproduced", tuple(good), len(known), _clearest(others, good))]
    if bad:
        out.append(Point("contradicted", tuple(bad), len(known)))
    left = sorted(having(INCONCLUSIVE), key=_missed)
    if left:
        out.append(Point("inconclusive", tuple(left), len(known)))
    return out


def _missed(item: Headline) -> float:
    """Of those that the correction left open, p; the others come after them."""
    p = item.finding.p_value
    return p if item.finding.correction and not math.isnan(p) else math.inf


def _clearest(others: Sequence[Headline], said: Sequence[Headline]) -> tuple[Headline, ...]:
    """Of each paper of which nothing is said, the reproduced gain in percent that is clearest; costs are no gains."""
    best: dict[str, Headline] = {}
    done = {item.paper for item in said}
    for item in others:
        f = item.finding
        if item.paper in done or f.counted != REPRODUCED or f.kind != "greater" or metric(f.metric).shown.unit != "%":
            continue
        if item.paper not in best or f.ci_low > best[item.paper].finding.ci_low:
            best[item.paper] = item
    return tuple(best.values())


def beyond(
    pages: Mapping[str, PaperPage], findings: Mapping[str, Sequence[Finding]], rows: Mapping[str, RowConfig]
) -> list[Headline]:
    """The tested comparisons that are no headlines, by the papers' folders, each called by its statement."""
    return [
        Headline(finding.statement, paper, finding, control_name(finding, rows))
        for paper, found in findings.items()
        for finding in found
        if finding.claim not in pages[paper].headline
    ]
