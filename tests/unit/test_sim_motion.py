"""Roads and motion: closed forms against step-by-step integration and round trips."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bevkd.sim.motion import Motion, Road


@given(
    st.floats(-3, 3), st.floats(0, 15), st.floats(-0.6, 0.6).filter(lambda r: r == 0 or abs(r) > 1e-6), st.floats(-2, 2)
)
@example(0.0, 1.0, 0.5625, 5e-324)  # a turn whose half is no number but zero
def test_motion_equals_small_steps(yaw: float, speed: float, rate: float, t: float) -> None:
    pose, steps = np.array([1.0, -2.0, yaw]), 2000
    for _ in range(steps):
        middle = pose[2] + rate * t / steps / 2
        pose += np.array([np.cos(middle) * speed, np.sin(middle) * speed, rate]) * t / steps
    np.testing.assert_allclose(Motion(1.0, -2.0, yaw, speed, rate).pose(t), pose, atol=1e-4)


@pytest.mark.parametrize("curvature", [0.0, 1 / 60, -1 / 60, 1 / 300, -1 / 300])
def test_road_coordinates_round_trip(curvature: float) -> None:
    road = Road(100.0, 200.0, 0.7, curvature)
    s, n = np.meshgrid(np.linspace(-50, 50, 21), np.linspace(-25, 25, 11))
    world = road.to_world(s, n)
    back_s, back_n = road.to_road(world[..., 0], world[..., 1])
    np.testing.assert_allclose(back_s, s, atol=1e-8)
    np.testing.assert_allclose(back_n, n, atol=1e-8)


@pytest.mark.parametrize("forward", [True, False])
@pytest.mark.parametrize("curvature", [0.0, 1 / 70, -1 / 70])
def test_following_a_road_keeps_the_lane(curvature: float, forward: bool) -> None:
    road = Road(5.0, -3.0, -2.0, curvature)
    motion = road.follow(4.0, -5.25, 9.0, forward)
    pose = motion.pose(np.linspace(-2, 2, 9))
    _, n = road.to_road(pose[:, 0], pose[:, 1])
    np.testing.assert_allclose(n, -5.25, atol=1e-9)
    travelled = np.linalg.norm(np.diff(pose[:, :2], axis=0), axis=1)
    np.testing.assert_allclose(travelled, 4.5, rtol=1e-3)
    # It drives the way it faces.
    assert (np.diff(pose[:, :2], axis=0) @ np.array([np.cos(motion.yaw), np.sin(motion.yaw)]) > 0).all()
