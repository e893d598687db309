"""What a number of seeds can tell: spread of paired differences, half-widths of intervals, and the seeds that follow.

The smallest effect that n seeds can tell from 0 is the half-width of the interval over them: an effect of that size at
that spread is the first whose 95 % interval excludes 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from bevkd.report.stats import Interval, half_width, spread

MOST_SEEDS = 1000  # beyond which nobody trains


@dataclass(frozen=True)
class Power:
    """What the paired differences of a row of a table say of the seeds that it takes, in printed units.

    Attributes:
        sd: sample standard deviation of the differences; NaN for a single pair.
        half_widths: of the 95 % interval, by number of seeds.
        wanted: the half-width that seeds are to reach; NaN: none.
        needed: seeds that reach it; 0: none is wanted, or no number up to a thousand does.
    """

    sd: float
    half_widths: dict[int, float]
    wanted: float = math.nan
    needed: int = 0


def seeds_needed(sd: float, wanted: float, level: float = 0.95) -> int:
    """The fewest paired seeds, two at least, whose interval has at most this half-width; 0: a thousand do not."""
    if math.isnan(sd) or not wanted > 0:
        return 0
    return next((n for n in range(2, MOST_SEEDS + 1) if half_width(sd, n, level) <= wanted), 0)


def power(gain: Interval, seeds: Sequence[int], wanted: float = math.nan) -> Power:
    """What a measured interval says of other numbers of seeds."""
    sd = spread(gain)
    return Power(sd, {n: half_width(sd, n) for n in seeds}, wanted, seeds_needed(sd, wanted))
