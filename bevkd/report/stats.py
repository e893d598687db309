"""Seed statistics: mean and standard deviation, and the paired t interval that claims rest on."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True)
class Interval:
    """A mean over n values with its 95 % t interval; the interval is NaN for n = 1."""

    mean: float
    low: float
    high: float
    n: int


def sample_std(values: Sequence[float]) -> float:
    """Sample standard deviation (n - 1); NaN for fewer than two values."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else math.nan


def half_width(sd: float, n: int, level: float = 0.95) -> float:
    """Half the width of the t interval over n values of a sample standard deviation; NaN for fewer than two."""
    from scipy.stats import t

    return float(t.ppf(0.5 + level / 2, n - 1)) * sd / math.sqrt(n) if n > 1 else math.nan


def spread(found: Interval) -> float:
    """Sample standard deviation of the values behind a 95 % interval; NaN for a single one."""
    return math.nan if found.n < 2 else (found.high - found.low) / 2 / half_width(1.0, found.n)


def t_interval(values: Sequence[float], level: float = 0.95) -> Interval:
    """Mean and two-sided Student t interval of independent values.

    Raises:
        ValueError: there is no value.
    """
    n = len(values)
    if n == 0:
        raise ValueError("no values")
    mean = float(np.mean(values))
    if n == 1:
        return Interval(mean, math.nan, math.nan, 1)
    half = half_width(sample_std(values), n, level)
    return Interval(mean, mean - half, mean + half, n)


def paired(better: Mapping[K, float], than: Mapping[K, float], level: float = 0.95) -> Interval:
    """Interval of `better - than` over the keys (seeds) that both have.

    Raises:
        ValueError: they share no key.
    """
    keys = [key for key in better if key in than]
    if not keys:
        raise ValueError("no common seed")
    return t_interval([better[key] - than[key] for key in keys], level)
