"""Power and significance: checked against textbook numbers and against scipy's own tests."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report_synthetic import write_run
from scipy import stats as scipy_stats

from bevkd.config import RowConfig
from bevkd.errors import ConfigError
from bevkd.report import significance, tables
from bevkd.report.fill import fill
from bevkd.report.power import Power, half_width, power, seeds_needed
from bevkd.report.render import grids, remarks, write
from bevkd.report.runs import Runs
from bevkd.report.spec import RowSpec, TableConfig, load_tables
from bevkd.report.stats import t_interval

DIFFERENCES = [2.2, -0.8, 0.9, 1.4, 0.3, 1.1]


def test_half_widths_and_seeds() -> None:
    assert half_width(1.0, 3) == pytest.approx(4.30265 / math.sqrt(3), abs=1e-4)
    assert half_width(2.0, 5) == pytest.approx(2 * 2.77645 / math.sqrt(5), abs=1e-4)
    assert math.isnan(half_width(1.0, 1))
    for wanted in (3.0, 1.0, 0.5, 0.2):
        n = seeds_needed(1.0, wanted)
        assert half_width(1.0, n) <= wanted
        assert n == 2 or half_width(1.0, n - 1) > wanted
    assert seeds_needed(1.0, 100.0) == 2
    assert seeds_needed(1.0, 1e-3) == seeds_needed(1.0, math.nan) == seeds_needed(math.nan, 1.0) == 0


def test_power_of_measured_differences() -> None:
    found = power(t_interval(DIFFERENCES), (3, 6), wanted=1.2)
    sd = float(np.std(DIFFERENCES, ddof=1))
    assert found.sd == pytest.approx(sd)
    interval = t_interval(DIFFERENCES)
    assert found.half_widths[6] == pytest.approx((interval.high - interval.low) / 2)
    assert found.needed == seeds_needed(sd, 1.2)
    single = power(t_interval([1.0]), (3,), wanted=1.0)
    assert math.isnan(single.sd)
    assert single.needed == 0


def test_p_values_are_those_of_t_tests() -> None:
    gain = t_interval(DIFFERENCES)
    assert significance.two_sided(gain) == pytest.approx(scipy_stats.ttest_1samp(DIFFERENCES, 0).pvalue)
    assert math.isnan(significance.two_sided(t_interval([1.0])))
    low = scipy_stats.ttest_1samp(DIFFERENCES, -2, alternative="greater").pvalue
    high = scipy_stats.ttest_1samp(DIFFERENCES, 2, alternative="less").pvalue
    assert significance.of_equivalence(gain, 2.0) == pytest.approx(max(low, high))


@pytest.mark.parametrize("margin", [0.5, 1.9, 2.0, 2.1, 5.0])
def test_equivalence_agrees_with_the_interval(margin: float) -> None:
    gain = t_interval(DIFFERENCES)
    inside = -margin < gain.low and gain.high < margin
    assert (significance.of_equivalence(gain, margin) < 0.025) == inside


def test_a_claims_p_is_the_largest_of_its_tests() -> None:
    strong, weak, worse = t_interval([2.0, 2.1, 2.2]), t_interval([1.0, 0.2, 0.6]), t_interval([-1.0, -1.1, -0.9])
    assert significance.of_gain(strong, []) == significance.two_sided(strong)
    assert significance.of_gain(strong, [weak, strong]) == significance.two_sided(weak)
    assert significance.of_gain(strong, [worse]) == 1.0, "a control that is better refutes nothing with a small p"
    assert significance.of_gain(worse, [strong]) == significance.two_sided(worse), "contradicted by its baseline alone"
    assert math.isnan(significance.of_gain(strong, [t_interval([1.0])]))
    constant = t_interval([1.0, 1.0, 1.0])
    assert significance.of_gain(constant, []) == 0.0
    for baseline, control in ((strong, weak), (weak, strong), (strong, strong)):
        holds = baseline.low > 0 and control.low > 0
        assert (significance.of_gain(baseline, [control]) < 0.05) == holds


def test_holm() -> None:
    # Holm (1979): p sorted times m, m-1, ...; never below the one before.
    assert significance.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert significance.holm([0.9, 0.8]) == [1.0, 1.0]
    untested = significance.holm([0.01, math.nan, 0.02])
    assert untested[0] == pytest.approx(0.03), "counts in the number"
    assert math.isnan(untested[1])
    assert significance.holm([]) == []


# --- the table
BASE = [10.0, 10.4, 9.8, 10.1, 10.2, 9.9]
SPEC: dict[str, Any] = {
    "name": "power",
    "title": "t",
    "caption": "c",
    "columns": [{"key": "mAP"}],
    "rows": [RowSpec(label="baseline", run="base"), RowSpec(label="arm", run="arm", against="base")],
    "target": "tuning",
    "split": "tune",
    "delta": "mAP",
    "power": (3, 8),
}


def made(tmp_path: Path, **changes: Any) -> tables.Table:
    rows = {
        name: RowConfig(id=name, dataset="d", model="camera", seeds=tuple(range(6)), frames=frames)
        for name, frames in (("base", "labelled"), ("arm", "all"))
    }
    for seed, (value, more) in enumerate(zip(BASE, DIFFERENCES, strict=True)):
        write_run(tmp_path / "runs", rows["base"], seed, value / 100)
        write_run(tmp_path / "runs", rows["arm"], seed, (value + more) / 100)
    return fill(TableConfig(**SPEC | changes), Runs(tmp_path / "runs", "sim", rows), tmp_path)


def test_a_table_of_power(tmp_path: Path) -> None:
    table = made(tmp_path, aims={"arm": 0.5})
    baseline, arm = table.rows
    assert baseline.power is None
    assert arm.power is not None
    sd = float(np.std(DIFFERENCES, ddof=1))
    assert arm.power.sd == pytest.approx(sd)
    assert arm.power.needed == seeds_needed(sd, 0.5) > 8
    (grid,) = grids(table)
    assert grid.head[-6:] == ("sd of Δ", "± with 3 seeds", "± with 8 seeds", "± wanted", "seeds needed", "n")
    assert grid.rows[1][-6:-1] == (
        f"{sd:.2f}",
        *(f"{half_width(sd, n):.2f}" for n in (3, 8)),
        "0.50",
        f"{arm.power.needed}",
    )
    assert grid.rows[1][grid.head.index("protocol")] == "unlabelled"
    assert grid.rows[0][grid.head.index("protocol")] == "published"
    assert any("half-width" in text for text in remarks(table))


def test_a_table_of_power_is_read_back(tmp_path: Path) -> None:
    table = made(tmp_path, aims={"arm": 0.5})
    path = write(table, tmp_path)[0]
    again = tables.read(table.spec, path, {})
    assert [row.protocol for row in again.rows] == ["published", "unlabelled"]
    found, known = again.rows[1].power, table.rows[1].power
    assert isinstance(found, Power)
    assert known is not None
    assert (found.needed, found.wanted) == (known.needed, known.wanted)
    assert found.sd == pytest.approx(known.sd, abs=1e-4)
    assert grids(again) == grids(table)


def test_an_aim_is_a_third_of_the_published_relative_gain(tmp_path: Path) -> None:
    table = made(tmp_path, aims={"arm": "path2_map"})
    assert table.rows[1].power is not None
    ours = sum(BASE) / len(BASE)  # 26.4 to 29.6 is published
    assert table.rows[1].power.wanted == pytest.approx((29.6 - 26.4) / 26.4 * ours / 3)
    with pytest.raises(ConfigError, match=r"row 'arm': aim: no claim 'path2_mop'.*'path2_map'"):
        made(tmp_path, aims={"arm": "path2_mop"})
    with pytest.raises(ConfigError, match="claim 'path1_map' has no published gain"):
        made(tmp_path, aims={"arm": "path1_map"})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"delta": None}, "power wants a delta"),
        ({"power": (1, 3)}, "two seeds at least"),
        ({"aims": {"base": 1.0}}, "aims belong to rows with a difference"),
        ({"power": (), "aims": {"arm": 1.0}}, "aims belong to rows with a difference"),
    ],
)
def test_bad_tables_of_power(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TableConfig(**SPEC | changes)


def test_the_table_of_power_is_there() -> None:
    spec = load_tables("sim")["power"]
    assert (spec.target, spec.split, spec.power) == ("tuning", "tune", (3, 5, 8))
    assert set(spec.aims or {}) <= {row.run for row in spec.rows}
