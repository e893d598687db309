"""Tables say when what they compare was trained on different machines or by different libraries, and how."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from report_synthetic import write_run

from bevkd.config import RowConfig
from bevkd.report.fill import fill
from bevkd.report.machines import mixture
from bevkd.report.records import make_record
from bevkd.report.render import grids, remarks, to_latex, to_markdown
from bevkd.report.runs import Runs
from bevkd.report.spec import RowSpec, TableConfig

ONE: dict[str, Any] = {
    "processor": "A",
    "device": "A",
    "precision": "bf16",
    "torch": "2.6",
    "numpy": "2.1",
    "python": "3.11",
}


def test_what_differs() -> None:
    assert mixture([]) == mixture([None, ONE, ONE | {"commit": "other", "date": "later", "cores": 64}]) == ""
    assert mixture([ONE, ONE | {"processor": "B", "device": "B"}]) == (
        "Trained with different processors (A; B): the same seed gives the same bits only where these agree."
    )
    found = mixture([ONE, ONE | {"device": "GPU", "torch": "2.7", "numpy": None}])
    assert "different devices (A; GPU), versions of torch (2.6; 2.7):" in found
    assert "numpy" not in found, "what is not known is no difference"


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    rows = {name: RowConfig(id=name, dataset="d", model="camera", seeds=(0, 1)) for name in ("a", "b")}
    rows["b"] = RowConfig(
        id="b", dataset="d", model="camera", seeds=(0, 1), init={"run": "a"}, teacher="a", teacher_seed="same"
    )
    for name, row in rows.items():
        for seed in row.seeds:
            folder = write_run(tmp_path / "runs", row, seed, 0.1 + 0.01 * seed)
            made = ONE | {"precision": "fp32" if (name, seed) == ("b", 1) else "bf16"}
            (folder / "provenance.json").write_text(json.dumps(made))
    return Runs(tmp_path / "runs", "sim", rows)


SPEC = TableConfig(
    name="t",
    title="t",
    caption="c",
    columns=({"key": "mAP"}, {"key": "mAVE"}),  # type: ignore[arg-type]
    rows=(RowSpec(label="a", run="a"), RowSpec(label="b", run="b")),
)


def test_a_table_says_so(tmp_path: Path, runs: Runs, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    table = fill(SPEC, runs, tmp_path)
    said = "Trained with different precisions (bf16; fp32): the same seed gives the same bits only where these agree."
    assert said in remarks(table)
    assert said in to_markdown(table)
    assert f"table t: {said}" in caplog.text
    (runs.folder("b", 1) / "provenance.json").write_text(json.dumps(ONE))
    assert "Trained with" not in to_markdown(fill(SPEC, runs, tmp_path))


def test_records_hold_what_and_by_whom(runs: Runs) -> None:
    runs = Runs(runs.root, "sim", {name: row for name, row in runs.rows.items() if name == "a"})
    record = make_record(runs, "a")
    assert [seed.made and seed.made["precision"] for seed in record.seeds] == ["bf16", "bf16"]
    assert [seed.teacher_seed for seed in record.seeds] == [None, None]


def test_tables_name_the_protocols_of_their_rows(tmp_path: Path, runs: Runs) -> None:
    table = fill(SPEC, runs, tmp_path)
    assert [row.protocol for row in table.rows] == ["published", "further"]
    (grid,) = grids(table)
    assert [cells[grid.head.index("protocol")] for cells in grid.rows] == ["published", "further"]
    for text in (to_markdown(table), to_latex(table)):
        assert "Published protocol: labelled frames only" in text
        assert "not of training with a teacher from scratch" in text
    alike = fill(TableConfig(**vars(SPEC) | {"rows": SPEC.rows[:1]}), runs, tmp_path)
    assert "protocol" not in grids(alike)[0].head, "all alike: the note below is enough"
    assert sum("protocol" in text for text in remarks(alike)) == 1


def test_cells_that_score_nothing_are_marked(tmp_path: Path, runs: Runs) -> None:
    path = runs.folder("a", 0) / "metrics_val.json"
    content = json.loads(path.read_text())
    content["tp_errors"]["vel_err"] = 2.5
    path.write_text(json.dumps(content))
    table = fill(SPEC, runs, tmp_path)
    (grid,) = grids(table)
    at = grid.head.index("mAVE ↓ ours")
    assert [cells[at].endswith("†") for cells in grid.rows] == [True, False]
    assert any(text.startswith("† Not learnt") for text in remarks(table))
    assert r"$\dagger$" in to_latex(table)
