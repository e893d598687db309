"""What a reader learns first: each paper's question, its headline comparisons, and what the ledger says of them.

Nothing here is a written finding: every number, count and verdict comes from the ledger, so that no sentence outlives
its result. What a paper says of itself: `bevkd.report.pages`.
"""

from __future__ import annotations

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

    @property
    def loses_to_control(self) -> bool:
        """Whether the strongest control is shown to do better than the method."""
        return self.finding.control_ci_high < 0

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
        kind: a verdict, or `control`: the strongest control does better than the method.
        items: the headlines of which it is true, the clearest first.
        total: number of headlines that were tested for it.
        also: where a paper has no reproduced headline, the clearest of its other gains in detection quality that is.
    """

    kind: Literal["reproduced", "contradicted", "inconclusive", "control"]
    items: tuple[Headline, ...]
    total: int
    also: tuple[Headline, ...] = ()

    @property
    def shown(self) -> tuple[Headline, ...]:
        """Those that are spelt out."""
        return self.items[:_SHOWN]


def points(known: Sequence[Headline], others: Sequence[Headline] = ()) -> list[Point]:
    """Two or three points: what is reproduced, what is contradicted (or left open), and what controls explain.

    `others` are comparisons that are no headlines.
    """

    def having(verdict: str) -> list[Headline]:
        return [item for item in known if item.finding.verdict == verdict]

    if not known:
        return []
    good = sorted(having(REPRODUCED), key=lambda item: -item.finding.ci_low)
    bad = sorted(having(CONTRADICTED), key=lambda item: item.finding.ci_high)
    out = [Point("reproduced", tuple(good), len(known), _clearest(others, good))]
    if bad:
        out.append(Point("contradicted", tuple(bad), len(known)))
    controlled = [item for item in known if item.control]
    lost = sorted((item for item in controlled if item.loses_to_control), key=lambda item: item.finding.control_ci_high)
    if lost:
        out.append(Point("control", tuple(lost), len(controlled)))
    if len(out) < 3 and having(INCONCLUSIVE):
        out.append(Point("inconclusive", tuple(having(INCONCLUSIVE)), len(known)))
    return out


def _clearest(others: Sequence[Headline], said: Sequence[Headline]) -> tuple[Headline, ...]:
    """Of each paper of which nothing is said, the reproduced gain in percent that is clearest; costs are no gains."""
    best: dict[str, Headline] = {}
    done = {item.paper for item in said}
    for item in others:
        f = item.finding
        if item.paper in done or f.verdict != REPRODUCED or f.kind != "greater" or metric(f.metric).shown.unit != "%":
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
