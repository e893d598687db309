"""Effects and their intervals on one axis, as shares of its width: the page draws them, and its text stays readable."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bevkd.report.metrics import metric
from bevkd.report.story import Headline


@dataclass(frozen=True)
class Mark:
    """An interval on the axis: places of its mean and of its ends, percent from the left; no ends for one pair."""

    at: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Line:
    """One comparison: over the baseline, over the strongest control, and what the paper prints; None: no such."""

    headline: Headline
    baseline: Mark
    control: Mark | None
    paper: Mark | None


@dataclass(frozen=True)
class Axis:
    """Comparisons in one unit; `ticks` are (place in percent, text), `zero` is where nothing is gained."""

    unit: str
    zero: float
    ticks: tuple[tuple[float, str], ...]
    lines: tuple[Line, ...]


def ticks(low: float, high: float, most: int = 10) -> list[float]:
    """Round numbers from `low` or above to `high` or below, about so many at most.

    Raises:
        ValueError: the range is empty or not finite.
    """
    from matplotlib.ticker import MaxNLocator

    width = high - low
    if not 0 < width < math.inf:
        raise ValueError(f"no range from {low} to {high}")
    found = MaxNLocator(nbins=most, steps=[1, 2, 5, 10]).tick_values(low, high)
    return [0.0 if abs(value) < 1e-9 * width else float(value) for value in found if low <= value <= high]


def axes(headlines: Iterable[Headline]) -> list[Axis]:
    """One axis per unit, in the order in which units first come."""
    groups: dict[str, list[Headline]] = {}
    for item in headlines:
        groups.setdefault(metric(item.finding.metric).shown.unit, []).append(item)
    return [_axis(unit, items) for unit, items in groups.items()]


def _axis(unit: str, items: Sequence[Headline]) -> Axis:
    drawn = [numbers(item) for item in items]
    known = [value for numbers in drawn for triple in numbers for value in triple if not math.isnan(value)]
    low, high = min(0.0, *known), max(0.0, *known)
    margin = 0.04 * (high - low) or 1.0
    low, high = low - margin, high + margin

    def place(value: float) -> float:
        return round(100 * (value - low) / (high - low), 2)

    def mark(numbers: tuple[float, float, float]) -> Mark | None:
        mean, left, right = numbers
        if math.isnan(mean):
            return None
        return Mark(place(mean)) if math.isnan(left) else Mark(place(mean), place(left), place(right))

    lines = []
    for item, (baseline, control, paper) in zip(items, drawn, strict=True):
        found = mark(baseline)
        assert found is not None  # every finding has an effect
        lines.append(Line(item, found, mark(control), mark(paper)))
    texts = tuple((place(value), f"{value:+g}" if value else "0") for value in ticks(low, high))
    return Axis(unit, place(0.0), texts, tuple(lines))


def numbers(item: Headline) -> tuple[tuple[float, float, float], ...]:
    """Mean and ends over baseline and control, and what the paper prints, as they are shown."""
    f, factor = item.finding, metric(item.finding.metric).shown.factor
    triples = (
        (f.effect, f.ci_low, f.ci_high),
        (f.control_effect, f.control_ci_low, f.control_ci_high),
        (f.paper_effect, math.nan, math.nan),
    )
    return tuple((a * factor, b * factor, c * factor) for a, b, c in triples)
