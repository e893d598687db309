"""Likely causes of a bad score: found where boxes are in another convention, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest

from bevkd.eval.causes import nearest_pairs, of_headings, of_heights, of_sizes

AXES = ("length", "width", "height")
CAR, PERSON = (4.2, 1.8, 1.6), (0.7, 0.65, 1.7)


def boxes(rng: np.random.Generator, n: int, size: tuple[float, float, float]) -> np.ndarray:
    return np.exp(rng.normal(0, 0.1, (n, 3))) * size


@pytest.mark.parametrize(
    ("order", "words"),
    [
        ([1, 0, 2], "length and width look exchanged"),
        ([2, 1, 0], "length and height look exchanged"),
        ([2, 0, 1], "in the order height, length, width instead of length, width, height"),
    ],
)
def test_sizes_in_another_order(order: list[int], words: str) -> None:
    rng = np.random.default_rng(0)
    true = boxes(rng, 40, CAR)
    found = true * np.exp(rng.normal(0, 0.1, true.shape))
    (text,) = of_sizes(found[:, order], true, AXES)
    assert words in text
    assert "40 detections" in text
    assert of_sizes(found, true, AXES) == []
    assert of_sizes(found[:4, order], true[:4], AXES) == []  # too few to tell


@pytest.mark.parametrize(("angle", "words"), [(90, "off by 90"), (-90, "off by -90"), (180, "off by 180")])
@pytest.mark.parametrize("n", [6, 60])
def test_headings_that_are_turned(angle: float, words: str, n: int) -> None:
    rng = np.random.default_rng(1)
    true = rng.uniform(-np.pi, np.pi, n)
    found = true + np.radians(angle) + rng.normal(0, 0.1, n)
    (text,) = of_headings(found, true)
    assert words in text
    (text,) = of_headings(-true, true, {"counted clockwise": true})
    assert "counted clockwise" in text
    (text,) = of_headings(np.degrees(true), true, {"to be in degrees": true})
    assert "to be in degrees" in text


@pytest.mark.parametrize("seed", range(40))
def test_weak_detectors_give_no_cause(seed: int) -> None:
    """Random sizes and headings, headings half of which are turned round, constant ones: the error is large, too."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(5, 200))
    true = boxes(rng, n, CAR if seed % 2 else PERSON)
    found = true * np.exp(rng.normal(0, rng.uniform(0, 0.5), true.shape))
    yaw = rng.uniform(-np.pi, np.pi, n)
    seen = [
        rng.uniform(-np.pi, np.pi, n),
        yaw + np.pi * rng.integers(0, 2, n),
        np.zeros(n),
        yaw + rng.normal(0, 0.8, n),
    ][seed % 4]
    assert of_sizes(found, true, AXES) == []
    assert of_headings(seen, yaw, {"counted clockwise": -seen, "a": -seen - np.pi / 2}) == []


def test_heights_of_the_bottom() -> None:
    rng = np.random.default_rng(0)
    true, height = rng.normal(0, 0.3, 30), rng.uniform(1.4, 1.8, 30)
    assert of_heights(true - height / 2, true, height / 2, "z of the bottom")[0].startswith(
        "z of the bottom: put right"
    )
    assert of_heights(true + rng.normal(0, 0.1, 30), true, height / 2, "z of the bottom") == []


def test_pairs_are_of_one_group_and_the_best_score() -> None:
    found = np.array([0, 0, 1, 2]), np.array([[0.0, 0], [1.0, 0], [0.0, 0], [9.0, 9]])
    true = np.array([0, 2]), np.array([[0.5, 0], [0.0, 0]])
    detections, annotations = nearest_pairs(found, np.array([0.1, 0.9, 1.0, 1.0]), true)
    assert (detections.tolist(), annotations.tolist()) == ([1], [0])
    empty = np.zeros(0, dtype=np.int64), np.zeros((0, 2))
    assert [len(part) for part in nearest_pairs(empty, np.zeros(0), true)] == [0, 0]
