"""Detections to the global frame: poses, headings, velocities, attributes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from bevkd.classes import CLASS_INDEX, CLASSES
from bevkd.data.batch import Boxes
from bevkd.eval.nuscenes.constants import ATTRIBUTES
from bevkd.geometry import pose, rotation_from_quaternion
from bevkd.train.submissions.nuscenes import attributes, multiply_quaternions, to_global


def test_attributes_follow_the_rules() -> None:
    still, moving = [0.1, 0.1], [-3.0, 0.0]
    expected = {
        "car": ("vehicle.parked", "vehicle.moving"),
        "truck": ("vehicle.parked", "vehicle.moving"),
        "construction_vehicle": ("vehicle.parked", "vehicle.moving"),
        "bus": ("vehicle.stopped", "vehicle.moving"),
        "trailer": ("vehicle.parked", "vehicle.moving"),
        "motorcycle": ("cycle.without_rider", "cycle.with_rider"),
        "bicycle": ("cycle.without_rider", "cycle.with_rider"),
        "pedestrian": ("pedestrian.standing", "pedestrian.moving"),
        "barrier": ("", ""),
        "traffic_cone": ("", ""),
    }
    assert set(expected) == set(CLASSES)
    names = [*ATTRIBUTES, ""]
    for name, pair in expected.items():
        label = CLASS_INDEX[name]
        assert tuple(names[i] for i in attributes([label, label], [still, moving])) == pair


def test_speed_threshold_is_exclusive() -> None:
    found = attributes([0, 0], [[0.2, 0.0], [0.2 + 1e-6, 0.0]])
    assert [ATTRIBUTES[i] for i in found] == ["vehicle.parked", "vehicle.moving"]


def test_quaternion_product_composes_rotations() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(5, 4)), rng.normal(size=(5, 4))
    a, b = (q / np.linalg.norm(q, axis=1, keepdims=True) for q in (a, b))
    product = rotation_from_quaternion(multiply_quaternions(a, b))
    np.testing.assert_allclose(product, rotation_from_quaternion(a) @ rotation_from_quaternion(b), atol=1e-12)


def test_global_boxes() -> None:
    """A car 10 m ahead of a vehicle that looks north (+y) with some roll."""
    tilt = Rotation.from_euler("ZYX", [np.pi / 2, 0.0, 0.02])
    x, y, z, w = tilt.as_quat()
    global_from_ego = pose([100.0, 200.0, 1.0], [w, x, y, z])
    car = Boxes(
        torch.tensor([[10.0, 0.0, 0.5, 4.0, 2.0, 1.5, 0.0, 5.0, 0.0]]),
        torch.tensor([CLASS_INDEX["car"]]),
        torch.tensor([0]),
        torch.tensor([0.7]),
    )
    found = to_global(car, global_from_ego)
    np.testing.assert_allclose(
        found.translation, [[100.0 + 0.5 * np.sin(0.02), 210.0, 1.0 + 0.5 * np.cos(0.02)]], atol=1e-5
    )
    np.testing.assert_allclose(found.size, [[2.0, 4.0, 1.5]])  # width, length, height
    np.testing.assert_allclose(found.velocity, [[0.0, 5.0]], atol=1e-6)
    assert found.score == pytest.approx([0.7])
    assert ATTRIBUTES[found.attribute[0]] == "vehicle.moving"
    turn = rotation_from_quaternion(found.rotation[0])
    np.testing.assert_allclose(turn, tilt.as_matrix(), atol=1e-7)  # the box keeps the roll of the road


def test_heading_turns_with_the_vehicle() -> None:
    rng = np.random.default_rng(1)
    values = np.concatenate([rng.normal(size=(20, 3)) * 20, rng.random((20, 3)) + 1, rng.normal(size=(20, 3))], axis=1)
    n = len(values)
    boxes = Boxes(
        torch.tensor(values), torch.zeros(n, dtype=torch.long), torch.zeros(n, dtype=torch.long), torch.ones(n)
    )
    global_from_ego = pose([5.0, 6.0, 0.0], [np.cos(0.4), 0.0, 0.0, np.sin(0.4)])  # 0.8 rad
    found = to_global(boxes, global_from_ego)
    turn = rotation_from_quaternion(found.rotation)
    heading = np.arctan2(turn[:, 1, 0], turn[:, 0, 0])
    difference = (heading - values[:, 6] - 0.8 + np.pi) % (2 * np.pi) - np.pi
    np.testing.assert_allclose(difference, 0, atol=1e-9)
    back = (found.translation - [5.0, 6.0, 0.0]) @ global_from_ego[:3, :3]
    np.testing.assert_allclose(back, values[:, :3], atol=1e-9)
    speed = np.linalg.norm(found.velocity, axis=1)
    np.testing.assert_allclose(speed, np.linalg.norm(values[:, 7:9], axis=1), atol=1e-9)


def test_no_detection_is_an_empty_table() -> None:
    assert len(to_global(Boxes.empty(), np.eye(4))) == 0
