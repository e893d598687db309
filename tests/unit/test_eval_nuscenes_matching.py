"""The matching in rounds against the plain loop over detections, and hand-worked numbers."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from bevkd.classes import CLASSES
from bevkd.eval.nuscenes import DetectionConfig, GroundTruth, Predictions, evaluate, make_boxes, matching
from bevkd.eval.nuscenes.matching import find_candidates, lengths, match, score_order


def random_boxes(rng, n, frames, classes, step):
    xy = rng.uniform(0, 12, (n, 2))
    translation = np.column_stack([np.round(xy / step) * step if step else xy, np.ones(n)])
    return make_boxes(
        rng.integers(0, frames, n),
        translation,
        np.ones((n, 3)),
        np.tile([1.0, 0, 0, 0], (n, 1)),
        np.zeros((n, 2)),
        rng.integers(0, classes, n),
        score=np.round(rng.random(n), 1),
    )


def one_by_one(gt, pred, threshold):
    """The rule as it is stated: by falling score, each detection takes the nearest free annotation."""
    taken, free = np.full(len(pred), -1), np.ones(len(gt), dtype=bool)
    for p in sorted(range(len(pred)), key=lambda i: (pred.score[i], i), reverse=True):
        best = np.inf
        for g in np.flatnonzero(free & (gt.frame == pred.frame[p]) & (gt.label == pred.label[p])):
            distance = np.linalg.norm(pred.translation[p, :2] - gt.translation[g, :2])
            if distance < best:
                best, nearest = distance, g
        if best < threshold:
            taken[p], free[nearest] = nearest, False
    return taken


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("step", [None, 0.5, 2.0])
def test_rounds_equal_the_loop(seed, step, monkeypatch):
    monkeypatch.setattr(matching, "CHUNK", 17)
    rng = np.random.default_rng(seed)
    gt, pred = random_boxes(rng, 60, 3, 2, step), random_boxes(rng, 150, 3, 2, step)
    order = score_order(pred.score)
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    candidates = find_candidates(gt, pred, 4.0)
    for threshold in (0.5, 2.0, 4.0):
        expected = one_by_one(gt, pred, threshold)
        np.testing.assert_array_equal(match(candidates, threshold, rank, len(gt)), expected)
        assert (expected >= 0).any()


def test_a_chain_of_displacements():
    """Each better detection pushes all before it one annotation further."""
    n = 50
    gt = boxes_at(np.arange(n, dtype=float))
    pred = boxes_at(np.full(n, -0.1), score=np.linspace(0.1, 0.9, n))
    order = score_order(pred.score)
    rank = np.argsort(order)
    taken = match(find_candidates(gt, pred, 100.0), 100.0, rank, n)
    np.testing.assert_array_equal(taken, np.arange(n)[::-1])


def test_lengths_round_as_the_norm_of_one_vector():
    vectors = np.random.default_rng(0).normal(0, 3, (2000, 2))
    np.testing.assert_array_equal(lengths(vectors), [np.linalg.norm(v) for v in vectors])


def boxes_at(x, score=None, label=0, **change):
    n = len(x)
    columns = {
        "frame": np.zeros(n),
        "translation": np.column_stack([x, np.zeros(n), np.zeros(n)]),
        "size": np.tile([2.0, 4.0, 1.5], (n, 1)),
        "rotation": np.tile([1.0, 0, 0, 0], (n, 1)),
        "velocity": np.zeros((n, 2)),
        "label": np.full(n, label),
    }
    return make_boxes(**(columns | change), score=score)


def truth(boxes):
    return GroundTruth(("a",), np.zeros((1, 3)), boxes, boxes.take([]))


def test_perfect_detections_of_one_class():
    gt = boxes_at(np.arange(0, 40, 5.0))
    pred = boxes_at(np.arange(0, 40, 5.0), score=np.full(8, 0.7))
    metrics = evaluate(truth(gt), Predictions(pred))
    assert metrics.mean_dist_aps["car"] == pytest.approx(1.0)
    assert metrics.mean_ap == pytest.approx(0.1)
    assert metrics.label_tp_errors["car"]["trans_err"] == 0
    assert metrics.label_tp_errors["car"]["attr_err"] == 1  # no annotation has an attribute
    assert metrics.label_tp_errors["truck"]["trans_err"] == 1
    assert np.isnan(metrics.label_tp_errors["traffic_cone"]["orient_err"])


def test_half_of_the_objects_found():
    """Recall 0.5 at precision 1: bins 11 to 50 of the 90 that count."""
    gt = boxes_at(np.arange(0, 40, 5.0))
    pred = boxes_at(np.arange(0, 20, 5.0) + 1.5, score=np.full(4, 0.7))
    metrics = evaluate(truth(gt), Predictions(pred))
    assert metrics.label_aps["car"][2.0] == pytest.approx(40 / 90)
    assert metrics.label_aps["car"][1.0] == 0
    assert metrics.label_tp_errors["car"]["trans_err"] == pytest.approx(1.5)
    assert metrics.curves["car", 2.0].max_recall_index == 50


@pytest.mark.parametrize(("name", "error"), [("car", np.pi), ("barrier", 0.0)])
def test_a_barrier_may_be_turned_around(name, error):
    label = CLASSES.index(name)
    gt = boxes_at(np.arange(0, 25, 5.0), label=label)
    turned = np.tile([0.0, 0, 0, 1.0], (5, 1))
    pred = boxes_at(np.arange(0, 25, 5.0), np.full(5, 0.5), label, rotation=turned)
    metrics = evaluate(truth(gt), Predictions(pred))
    assert metrics.label_tp_errors[name]["orient_err"] == pytest.approx(error, abs=1e-12)


def test_no_boxes_at_all():
    nothing = boxes_at(np.zeros(0), score=np.zeros(0))
    metrics = evaluate(truth(nothing), Predictions(nothing))
    assert metrics.mean_ap == 0
    assert metrics.nd_score == 0
    summary = metrics.summary()
    assert list(summary["label_aps"]["car"]) == ["0.5", "1.0", "2.0", "4.0"]
    assert summary["cfg"] == DetectionConfig().to_dict()


def test_no_torch_on_import():
    code = "import sys, bevkd.eval.nuscenes; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
