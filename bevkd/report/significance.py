"""How sure a claim is: p values of its tests, and their correction for the number of claims of a part.

A claim of kind `greater` is tested over its baseline and over each of its controls, by two-sided paired t tests. It
holds if all of them do, so its p is the largest of theirs (an intersection-union test), where a test whose mean points
the other way counts as 1. Where the effect over the baseline itself points against the claim, its p is that of the
baseline alone: a claim is contradicted by its baseline. A claim lacks a p when one of its tests cannot be made: a
single pair, a control that has not been run or declared, a metric that has not been learnt.

The family of Holm's correction is every claim of kind `greater` of a part of the results: of one paper and tier. Those
without a p count in it as if it were 1. A declared null is tested against its margin by two one-sided tests (TOST), a
bound by a two-sided t test against it; neither is a member of the family.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from bevkd.report.stats import Interval, spread

LEVEL = 0.05


def _t(gain: Interval, at: float) -> float | None:
    """Statistic of a mean against `at`; None for a single pair."""
    if gain.n < 2 or math.isnan(gain.low):
        return None
    error = spread(gain) / math.sqrt(gain.n)
    if error == 0:
        return math.copysign(math.inf, gain.mean - at) if gain.mean != at else 0.0
    return (gain.mean - at) / error


def two_sided(gain: Interval) -> float:
    """Of the paired t test against 0, its p; NaN for a single pair."""
    from scipy.stats import t

    statistic = _t(gain, 0.0)
    return math.nan if statistic is None else 2 * float(t.sf(abs(statistic), gain.n - 1))


def of_gain(baseline: Interval, controls: Sequence[Interval]) -> float:
    """Of a claim that a gain holds over baseline and every control, its p; NaN where one test cannot be made."""
    p = two_sided(baseline)
    if math.isnan(p) or baseline.mean < 0:
        return p
    found = [p, *(1.0 if gain.mean <= 0 and gain.n > 1 else two_sided(gain) for gain in controls)]
    return math.nan if any(map(math.isnan, found)) else max(found)


def of_equivalence(gain: Interval, margin: float) -> float:
    """Of the two one-sided tests that a mean lies within ±margin, the larger p; NaN for a single pair.

    It is below 0.025 exactly where the 95 % interval lies within the margin.
    """
    from scipy.stats import t

    above, below = _t(gain, -margin), _t(gain, margin)
    if above is None or below is None:
        return math.nan
    return max(float(t.sf(above, gain.n - 1)), float(t.cdf(below, gain.n - 1)))


def text(p: float) -> str:
    """A p value as it is shown."""
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def holm(values: Sequence[float]) -> list[float]:
    """Holm's adjusted p values, in the order given; NaN stays NaN and counts as 1 in the family."""
    order = sorted(range(len(values)), key=lambda i: 1.0 if math.isnan(values[i]) else values[i])
    out, reached = [math.nan] * len(values), 0.0
    for rank, i in enumerate(order):
        if not math.isnan(values[i]):
            reached = out[i] = max(reached, min(1.0, (len(values) - rank) * values[i]))
    return out
