"""Arms that were clipped unequally are said, in the table and on the page alike."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from report_synthetic import write_run

from bevkd.config import MethodConfig, RowConfig
from bevkd.errors import ConfigError, DataError
from bevkd.report import clipping, records
from bevkd.report.fill import fill
from bevkd.report.metrics import metric
from bevkd.report.runs import Runs
from bevkd.report.spec import ClaimConfig, ColumnSpec, RowSpec, TableConfig

BASE = RowConfig(id="base", dataset="nuscenes_sim", model="camera", seeds=(0, 1))
ARM = replace(BASE, id="arm", teacher="base", method=MethodConfig("dense", factor=0.3))
ROWS = {"base": BASE, "arm": ARM}
SPEC = TableConfig(
    *("t", "T", "c", tuple(map(ColumnSpec, ("mAP", "clipped", "clip_scale", "kd_share")))),
    (RowSpec("Base", "base"), RowSpec("Arm", "arm", against="base")),
    delta="mAP",
)


def written(root: Path, base: float, arm: float) -> Runs:
    for row, share in ((BASE, base), (ARM, arm)):
        for seed in row.seeds:  # the share is the mean over seeds
            write_run(root / "runs", row, seed, 0.1, clipped=share + (0.01 if seed else -0.01))
    return Runs(root / "runs", "sim", ROWS)


@pytest.mark.parametrize(("base", "arm", "said"), [(0.5, 0.59, False), (0.5, 0.61, True), (0.61, 0.5, True)])
def test_a_note_where_shares_lie_more_than_ten_points_apart(
    tmp_path: Path, base: float, arm: float, said: bool
) -> None:
    runs = written(tmp_path, base, arm)
    table = fill(SPEC, runs, tmp_path)
    note = f"share of clipped steps: arm {100 * arm:.0f} %, base {100 * base:.0f} %."
    assert any(note in text for text in table.notes) is said
    # The page has records instead of logs.
    kept = {run: records.make_record(runs, run) for run in ROWS}
    plain = replace(table, notes=())
    by_record = clipping.remarked(plain, ROWS, lambda run: clipping.mean_of([s.clipped for s in kept[run].seeds]))
    assert by_record.notes == table.notes


def test_logs_that_do_not_say_make_no_note(tmp_path: Path) -> None:
    runs = written(tmp_path, 0.1, 0.9)
    for seed in BASE.seeds:
        path = runs.folder("base", seed) / "log.jsonl"
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        path.write_text("".join(json.dumps({k: v for k, v in ln.items() if k != "clipped"}) + "\n" for ln in lines))
    assert clipping.measured(runs, "base") is None
    assert clipping.measured(runs, "arm") == pytest.approx(0.9)
    without = replace(SPEC, columns=(ColumnSpec("mAP"),))
    assert fill(without, runs, tmp_path).notes == ()
    with pytest.raises(DataError, match=r"the training log of run 'base' does not say it.*clipped"):
        fill(SPEC, runs, tmp_path)


def test_the_numbers_of_a_table_and_a_record(tmp_path: Path) -> None:
    runs = written(tmp_path, 0.2, 0.4)
    base, arm = fill(SPEC, runs, tmp_path).rows
    assert arm.values["clipped"].ours == pytest.approx(40.0)
    assert base.values["clip_scale"].ours == pytest.approx(0.9)
    assert arm.values["kd_share"].ours == pytest.approx(15.0)  # half of the detection loss, times the factor
    assert base.values["kd_share"].ours != base.values["kd_share"].ours, "a student without a teacher has none"
    record = records.make_record(runs, "arm")
    assert [(s.clipped, s.clip_scale, s.kd_share) for s in record.seeds] == [(0.39, 0.805, 0.15), (0.41, 0.795, 0.15)]
    assert record.factor == 0.3
    records.write_record(record, tmp_path)
    assert records.read_record(tmp_path, "arm") == record


@pytest.mark.parametrize("key", ["clipped", "clip_scale", "kd_share"])
def test_nothing_is_claimed_of_it(key: str) -> None:
    assert metric(key).arrow == ""
    with pytest.raises((ConfigError, ValueError), match=f"of {key} neither more nor less is better"):
        ClaimConfig("c", "p", "s", key, "arm", "base")
