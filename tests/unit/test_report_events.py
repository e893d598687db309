"""What two runs find in the same frames."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matches_synthetic import content, made_up, write
from report_synthetic import write_run

from bevkd.config import RowConfig
from bevkd.config.training import InitConfig
from bevkd.errors import ConfigError, DataError
from bevkd.eval.centres import Centres, match_best, pair_nearest
from bevkd.report.claims import answer
from bevkd.report.events import compare, read_matches
from bevkd.report.figure_kinds import Examples
from bevkd.report.fill import fill
from bevkd.report.metrics import METRICS, metric
from bevkd.report.pairs import pair_values, partner_seed
from bevkd.report.render import to_markdown
from bevkd.report.runs import Runs
from bevkd.report.spec import ClaimConfig, ColumnSpec, RowSpec, TableConfig, reads

ROWS = {
    "teacher": RowConfig(id="teacher", dataset="nuscenes_sim", model="fusion", seeds=(0, 1)),
    "student": RowConfig(id="student", dataset="nuscenes_sim", model="camera", seeds=(0, 1, 2, 3)),
    "arm": RowConfig(
        id="arm",
        dataset="nuscenes_sim",
        model="camera",
        seeds=(0, 1, 2),
        teacher="teacher",
        teacher_seed=(1, 0),
        init=InitConfig(run="student", seed=3),
    ),
}
CAR, VAN = 0, 11
EVENTS = [key for key, known in METRICS.items() if known.file == "matches"]
TABLE = TableConfig(
    "t", "T", "c", tuple(map(ColumnSpec, EVENTS)), (RowSpec("x", "arm", against="student"),), delta="net_gain"
)


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    root = tmp_path / "results/runs"
    for run, row in ROWS.items():
        for seed in row.seeds:
            folder = write_run(root, row, seed, 0.1)
            rng = np.random.default_rng([seed, len(run)])
            write(folder / "matches_val.json", made_up(rng, 0.7 if run == "arm" else 0.5))
    return Runs(root, "sim", ROWS)


def of(runs: Runs, run: str, what: dict[str, Any], seed: int = 0) -> Any:
    write(runs.folder(run, seed) / "matches_val.json", what)
    return read_matches(runs, run, seed, "report")


def centres(rows: list[tuple[int, int, float, float, float]]) -> Centres:
    """From (frame, label, x, y, score)."""
    table = np.array(rows, dtype=np.float64).reshape(-1, 5)
    box = np.zeros((len(table), 7))
    box[:, :2], box[:, 3:6] = table[:, 2:4], 1.0
    return Centres(table[:, 0].astype(np.int64), table[:, 1].astype(np.int64), box, table[:, 4])


def test_as_many_detections_count_as_there_are_annotations() -> None:
    truth = centres([(0, CAR, 0, 0, 1), (0, CAR, 9, 0, 1), (1, VAN, 0, 0, 1)])
    found = centres(
        [(0, CAR, 1, 0, 0.2), (0, CAR, 0.5, 0, 0.9), (1, VAN, 1.9, 0, 0.3), (0, CAR, 11, 0, 0.8), (0, VAN, 9, 0, 0.1)]
    )
    best, annotation = match_best(found, truth)
    assert best.tolist() == [1, 3, 2], "the three best, the two others never count"
    assert annotation.tolist() == [0, -1, 2], "2 m are too far"


def test_partners_are_the_same_from_either_side() -> None:
    some = centres([(0, CAR, 0, 0, 1), (0, CAR, 1.5, 0, 1), (0, VAN, 0, 0, 1), (1, CAR, 0, 0, 1)])
    others = centres([(0, CAR, 0.9, 0, 1), (0, CAR, -1.9, 0, 1), (1, CAR, 2.0, 0, 1)])
    # The nearest pair is 1.5 with 0.9; 0 takes what is left, though 0.9 is nearer to it.
    assert pair_nearest(some, others).tolist() == [1, 0, -1, -1]
    assert pair_nearest(others, some).tolist() == [1, 0, -1]
    rng = np.random.default_rng(0)
    for _ in range(50):
        a, b = (
            centres([(*rng.integers(0, 2, 2), *rng.integers(0, 6, 2), 1.0) for _ in range(rng.integers(0, 12))])
            for _ in range(2)
        )  # whole metres: many equal distances
        there, back = pair_nearest(a, b), pair_nearest(b, a)
        assert (there >= 0).sum() == (back >= 0).sum()
        pairs = {(i, int(j)) for i, j in enumerate(there) if j >= 0}
        assert len({j for _, j in pairs}) == len(pairs)
        for i, j in pairs:
            assert (a.frame[i], a.label[i]) == (b.frame[j], b.label[j])
            assert np.hypot(*(a.box[i, :2] - b.box[j, :2])) < 2


def test_events_by_hand(runs: Runs) -> None:
    truth = [(0, CAR, 0.0, 0.0), (0, CAR, 20.0, 0.0), (1, CAR, 0.0, 0.0), (1, VAN, 5.0, 5.0)]
    mine = [(0, CAR, 0, 0, 0.9, 0), (1, CAR, 0, 0, 0.8, 2), (1, VAN, 15, 5, 0.7, -1), (0, CAR, 40, 0, 0.6, -1)]
    theirs = [
        (0, CAR, 0.5, 0, 0.5, 0),  # found by both
        (1, VAN, 16, 5, 0.4, -1),  # the same false one as mine
        (1, CAR, 15, 5, 0.3, -1),  # another class: rejected
        (0, CAR, 20, 0, 0.2, 1),  # lost
    ]
    a, b = (of(runs, run, content(truth, rows, 2)) for run, rows in (("arm", mine), ("student", theirs)))
    events = compare(a, b)
    assert events.gained.tolist() == [2]
    assert events.lost.tolist() == [1]
    assert events.rejected.tolist() == [2]
    assert events.added.tolist() == [3]
    opposite = compare(b, a)
    assert (opposite.gained.tolist(), opposite.rejected.tolist()) == ([1], [3])
    nothing = compare(a, a)
    assert not any(len(part) for part in (nothing.gained, nothing.lost, nothing.rejected, nothing.added))


def test_objects_and_false_detections_are_two_sides_of_one_number(runs: Runs) -> None:
    """Two detectors with as many detections: who finds more has fewer false ones."""
    for seed, values in pair_values(runs, "arm", "student", "report", EVENTS).items():
        net = values["objects_gained"] - values["objects_lost"]
        assert values["net_gain"] == net == values["false_rejected"] - values["false_added"], seed
        assert values["objects_gained"] > 0 < values["objects_lost"]


def test_a_seed_is_compared_with_what_it_learnt_and_started_from(runs: Runs) -> None:
    assert [partner_seed(runs, "arm", seed, "teacher") for seed in (0, 1, 2)] == [1, 0, 1]
    assert [partner_seed(runs, "arm", seed, "student") for seed in (0, 1)] == [3, 3]
    assert partner_seed(runs, "student", 2, "teacher") == 2, "no relation: the same seed"
    assert set(pair_values(runs, "student", "teacher", "report", EVENTS)) == {0, 1}, "seeds that both have"
    before = pair_values(runs, "arm", "teacher", "report", EVENTS)
    of(runs, "teacher", made_up(np.random.default_rng(5)), seed=1)
    after = pair_values(runs, "arm", "teacher", "report", EVENTS)
    assert before[1] == after[1]
    assert before[0] != after[0]
    assert before[2] != after[2]


def test_a_table_counts_kinds_and_opposites_with_an_interval(runs: Runs, tmp_path: Path) -> None:
    assert reads(TABLE, ROWS) == {"matches": [*(("arm", s) for s in range(3)), *(("student", s) for s in range(4))]}
    (row,) = fill(TABLE, runs, tmp_path).rows
    values = pair_values(runs, "arm", "student", "report", EVENTS)
    net = [v["net_gain"] for v in values.values()]
    assert row.n == 3
    for key in EVENTS:
        assert row.values[key].ours == pytest.approx(np.mean([v[key] for v in values.values()]))
    assert row.delta is not None
    assert row.delta.mean == pytest.approx(np.mean(net))
    half = 4.302653 * np.std(net, ddof=1) / math.sqrt(3)  # Student's t with two degrees of freedom
    assert (row.delta.high - row.delta.low) / 2 == pytest.approx(half, rel=1e-5)
    assert "Δ net_gain paired" in to_markdown(fill(TABLE, runs, tmp_path))


def test_a_claim_may_be_of_the_net_gain(runs: Runs) -> None:
    claim = ClaimConfig("c", "P", "s", "net_gain", "arm", "student", control="not_due", source="here")
    found = answer(claim, runs)
    net = [v["net_gain"] for v in pair_values(runs, "arm", "student", "report", ["net_gain"]).values()]
    assert found.effect == pytest.approx(np.mean(net))
    assert found.n == 3
    opposite = ClaimConfig("c", "P", "s", "net_gain", "student", "arm", control="not_due", source="here")
    assert answer(opposite, runs).effect < 0
    for key in set(EVENTS) - {"net_gain"}:
        with pytest.raises(ValueError, match="neither more nor less"):
            ClaimConfig("c", "P", "s", key, "arm", "student", source="here")
    with pytest.raises(ValueError, match="over seeds"):
        ClaimConfig("c", "P", "s", "net_gain", "arm", "student", over="subsets", source="here")


def test_what_is_of_pairs_wants_a_partner(runs: Runs) -> None:
    with pytest.raises(ValueError, match="want rows with `against`"):
        TableConfig("t", "T", "c", (ColumnSpec("net_gain"),), (RowSpec("x", "arm"),))
    with pytest.raises(ConfigError, match="metrics of detections"):
        metric("net_gain@range:0-20")
    alone = {**ROWS, "student": RowConfig(id="student", dataset="nuscenes_sim", model="camera", seeds=(1,))}
    with pytest.raises(DataError, match="share no seed"):
        fill(TABLE, Runs(runs.root, "sim", alone), runs.root)


def broken(change: Any) -> dict[str, Any]:
    what = made_up(np.random.default_rng(0))
    change(what)
    return what


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda w: w.pop("tokens"), "tokens"),
        (lambda w: w["tokens"].append(w["tokens"][0]), "tokens"),
        (lambda w: w["annotations"]["frame"].pop(), "annotations"),
        (lambda w: w["annotations"]["label"].__setitem__(0, 99), "annotations"),
        (lambda w: w["annotations"]["box"][0].pop(), "annotations"),
        (lambda w: w["detections"]["frame"].__setitem__(0, 6), "detections"),
        (lambda w: w["detections"]["box"][0].__setitem__(0, math.nan), "detections"),
        (lambda w: w["detections"]["score"].pop(), "detections"),
        (lambda w: w["detections"]["annotation"].__setitem__(0, 48), "detections"),
        (lambda w: w["detections"]["annotation"].__setitem__(0, 0.5), "detections"),
        (lambda w: w["detections"]["annotation"].__setitem__(slice(0, 2), [3, 3]), "detections"),
        (lambda w: w.pop("matched"), "matched"),
    ],
)
def test_bad_files_are_named(runs: Runs, change: Any, field: str) -> None:
    with pytest.raises(DataError, match=rf"not what `bevkd matches` writes.*matches_val\.json.*field={field}"):
        of(runs, "arm", broken(change))


def test_runs_of_other_frames_or_annotations_are_not_compared(runs: Runs) -> None:
    mine = read_matches(runs, "arm", 0, "report")
    what = json.loads(mine.file.read_text())
    other = copy.deepcopy(what)
    other["tokens"][2] = "elsewhere"
    with pytest.raises(DataError, match=r"other frames than.*student.*field=tokens"):
        compare(mine, of(runs, "student", other))
    other = copy.deepcopy(what)
    other["annotations"]["box"][10][0] += 0.01
    with pytest.raises(DataError, match=r"other annotations than.*token=token-1"):
        compare(mine, of(runs, "student", other))
    other = copy.deepcopy(what)
    for column in other["annotations"].values():
        del column[-1]
    other["detections"]["annotation"] = [-1] * len(other["detections"]["annotation"])
    with pytest.raises(DataError, match=r"other annotations than.*token=token-5"):
        compare(mine, of(runs, "student", other))
    runs.file("matches", "student", 0, "report").unlink()
    with pytest.raises(DataError, match="run 'student' has no matches for seed 0"):
        read_matches(runs, "student", 0, "report")


def test_a_figure_of_examples_reads_what_belongs_together() -> None:
    curves = {key: {"label": key, "run": run} for key, run in (("teacher", "teacher"), ("student", "student"))}
    spec = Examples("f", "", "", kind="examples", distilled={"label": "x", "run": "arm"}, **curves)  # type: ignore[arg-type]
    assert spec.needs(ROWS) == [("teacher", 1), ("student", 3), ("arm", 0)]
    with pytest.raises(ValueError, match="single runs"):
        Examples(
            "f",
            "",
            "",
            kind="examples",
            distilled={"label": "x", "run": ["arm", "student"]},
            **curves,  # type: ignore[arg-type]
        )
