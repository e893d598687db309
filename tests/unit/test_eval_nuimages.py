"""Average precision of 2D boxes against a naive computation, and cases worked by hand."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from bevkd.eval.nuimages import average_precision, evaluate, iou_2d

Array = NDArray[np.float64]


def naive_iou(a: Array, b: Array) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(0.0, width) * max(0.0, height)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return shared / union if union > 0 else 0.0


def naive_ap(found: list[tuple[Array, Array]], truth: list[Array]) -> float:
    """All detections of all images by falling score, one after the other; the area under the best precision."""
    rows = []
    for image, (seen, scores) in enumerate(found):
        rows += [(score, image, box) for box, score in zip(seen, scores, strict=True)]
    rows.sort(key=lambda row: -row[0])
    free = [set(range(len(boxes))) for boxes in truth]
    total, right, curve = sum(map(len, truth)), 0, []
    for number, (_, image, box) in enumerate(rows, 1):
        best = max(free[image], key=lambda k: naive_iou(box, truth[image][k]), default=None)
        if best is not None and naive_iou(box, truth[image][best]) >= 0.5:
            free[image].remove(best)
            right += 1
        curve.append((right / total, right / number))
    area, before = 0.0, 0.0
    for at, (recall, _) in enumerate(curve):
        area += (recall - before) * max(precision for _, precision in curve[at:])
        before = recall
    return area


def boxes(rng: np.random.Generator, count: int) -> Array:
    low = rng.uniform(0, 40, (count, 2))
    return np.concatenate([low, low + rng.uniform(1, 25, (count, 2))], axis=1)


def test_iou() -> None:
    a, b = boxes(np.random.default_rng(0), 30), boxes(np.random.default_rng(1), 20)
    assert np.allclose(iou_2d(a, b), [[naive_iou(x, y) for y in b] for x in a])
    assert iou_2d(np.array([[1.0, 1, 1, 1]]), np.array([[1.0, 1, 1, 1]])).tolist() == [[0.0]]


@pytest.mark.parametrize("seed", range(12))
def test_average_precision_is_that_of_the_naive_way(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = [boxes(rng, rng.integers(0, 6)) for _ in range(8)]
    found = []
    for there in truth:
        near = there + rng.normal(0, 1.5, there.shape)
        near[:, 2:] = np.maximum(near[:, 2:], near[:, :2] + 0.5)
        seen = np.concatenate([near[rng.random(len(near)) < 0.8], boxes(rng, rng.integers(0, 4))])
        found.append((seen, rng.random(len(seen))))
    value = average_precision(found, truth)
    assert value == pytest.approx(naive_ap(found, truth), abs=1e-12)
    assert value is not None
    assert 0 < value < 1


def test_cases_by_hand() -> None:
    box, other = np.array([[0.0, 0, 10, 10]]), np.array([[50.0, 50, 60, 60]])
    assert average_precision([(box, np.array([0.9]))], [box]) == 1.0
    assert average_precision([(other, np.array([0.9]))], [box]) == 0.0
    assert average_precision([(np.zeros((0, 4)), np.zeros(0))], [box]) == 0.0
    assert average_precision([(box, np.array([0.9]))], [np.zeros((0, 4))]) is None
    # The same object twice: the second one is wrong. A wrong one before it halves precision.
    twice = np.concatenate([box, box])
    assert average_precision([(twice, np.array([0.9, 0.8]))], [box]) == 1.0
    both = np.concatenate([other, box])
    assert average_precision([(both, np.array([0.9, 0.8]))], [box]) == 0.5
    # One of two objects is found first, the other never.
    assert average_precision([(box, np.array([0.9]))], [both]) == 0.5


def test_classes_are_apart_and_missing_images_count() -> None:
    box = np.array([[0.0, 0, 10, 10]])
    truth = {"a": (box, np.array([0])), "b": (box, np.array([0])), "c": (box, np.array([1]))}
    found = {"a": (box, np.array([0]), np.array([0.9])), "c": (box, np.array([0]), np.array([0.5]))}
    metrics = evaluate(found, truth, {"car": 0, "truck": 1, "bus": 3})
    assert metrics["AP50"] == {"car": 0.5, "truck": 0.0, "bus": None}
    assert metrics["mAP50"] == 0.25
    assert metrics["objects"] == {"car": 2, "truck": 1, "bus": 0}
