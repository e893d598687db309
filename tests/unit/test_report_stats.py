from __future__ import annotations

import math

import pytest
from scipy.stats import t as student
from scipy.stats import ttest_rel

from bevkd.report.stats import paired, sample_std, t_interval


def test_three_values_by_hand():
    # mean 2, standard deviation 1, t(0.975, 2) = 4.302653: half width 4.302653 / sqrt(3) = 2.484138
    interval = t_interval([1.0, 2.0, 3.0])
    assert (interval.mean, interval.n) == (2.0, 3)
    assert interval.low == pytest.approx(-0.484138, abs=1e-6)
    assert interval.high == pytest.approx(4.484138, abs=1e-6)


def test_two_values_by_hand():
    # t(0.975, 1) = 12.706205; values 0 and 2: deviation sqrt(2), half width 12.706205
    interval = t_interval([0.0, 2.0])
    assert interval.high - interval.mean == pytest.approx(12.706205, abs=1e-5)


def test_one_value_has_no_interval():
    interval = t_interval([3.0])
    assert interval.mean == 3.0
    assert math.isnan(interval.low)
    assert math.isnan(interval.high)
    assert math.isnan(sample_std([3.0]))


def test_paired_equals_scipy_and_uses_common_seeds_only():
    better = {0: 11.3, 1: 12.9, 2: 10.1, 7: 99.0}
    than = {0: 10.0, 1: 12.0, 2: 10.5, 8: -99.0}
    interval = paired(better, than)
    oracle = ttest_rel([11.3, 12.9, 10.1], [10.0, 12.0, 10.5]).confidence_interval(0.95)
    assert interval.n == 3
    assert (interval.low, interval.high) == pytest.approx((oracle.low, oracle.high))


def test_pairing_removes_what_seeds_share():
    shift = {0: -5.0, 1: 0.0, 2: 5.0}
    better = {k: 10 + s + d for (k, s), d in zip(shift.items(), (1.0, 1.2, 0.8), strict=True)}
    than = {k: 10 + s for k, s in shift.items()}
    interval = paired(better, than)
    assert interval.mean == pytest.approx(1.0)
    assert interval.high - interval.mean == pytest.approx(student.ppf(0.975, 2) * 0.2 / math.sqrt(3))
    assert interval.low > 0


def test_nothing_in_common():
    with pytest.raises(ValueError, match="no common seed"):
        paired({0: 1.0}, {1: 1.0})
