"""The ray caster against a plain all-pairs test: windows may be generous but must never miss a hit."""

from __future__ import annotations

import numpy as np
import pytest

from bevkd.sim import raycast
from bevkd.sim.config import CameraConfig
from bevkd.sim.raycast import Boxes, PinholeGrid, RayGrid, SpinGrid, cast
from bevkd.sim.rig import CAMERAS, LIDAR, calibrate


def _random_boxes(rng: np.random.Generator, n: int) -> Boxes:
    centre = np.column_stack([rng.uniform(-30, 30, (n, 2)), rng.uniform(0.2, 4.0, n)])
    half = rng.uniform([0.05, 0.05, 0.1], [8.0, 2.0, 3.0], (n, 3))
    return Boxes(centre, half, rng.uniform(-np.pi, np.pi, n))


def _brute(grid: RayGrid, boxes: Boxes) -> tuple[np.ndarray, np.ndarray]:
    """Distance and box of the first hit, by the textbook slab test in float64."""
    rays = grid.directions.astype(np.float64)
    best, which = np.full(rays.shape[1], np.inf), np.full(rays.shape[1], -1)
    for i in range(len(boxes.yaw)):
        c, s = np.cos(boxes.yaw[i]), np.sin(boxes.yaw[i])
        to_box = np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]])
        o, d = to_box @ (grid.origin - boxes.centre[i]), to_box @ rays
        first = (-boxes.half[i] - o)[:, None] / d
        second = (boxes.half[i] - o)[:, None] / d
        enter, leave = np.minimum(first, second).max(axis=0), np.maximum(first, second).min(axis=0)
        hit = (enter <= leave) & (enter > 0) & (enter < best)
        best[hit], which[hit] = enter[hit], i
    return best, which


def _grids() -> dict[str, RayGrid]:
    config = CameraConfig(height=48, width=80)
    rig = calibrate(config, np.random.default_rng(1))
    grids: dict[str, RayGrid] = {}
    for channel in CAMERAS:
        calibration = rig[channel]
        assert calibration.intrinsics is not None
        grids[channel] = PinholeGrid.build(
            np.array(calibration.translation), calibration.ego_from_sensor, calibration.intrinsics, 48, 80
        )
    elevations = np.deg2rad(np.linspace(-30.67, 10.67, 16))
    top = rig[LIDAR]
    grids[LIDAR] = SpinGrid.build(np.array(top.translation), top.ego_from_sensor, elevations, 256, 0.01, 200.0)
    return grids


@pytest.mark.parametrize("channel", ["CAM_FRONT", "CAM_BACK", "CAM_BACK_LEFT", LIDAR])
@pytest.mark.parametrize("seed", range(4))
def test_cast_finds_the_first_box_of_every_ray(channel: str, seed: int) -> None:
    grid = _grids()[channel]
    boxes = _random_boxes(np.random.default_rng(seed), 40)
    hits = cast(grid, boxes)
    distance, which = _brute(grid, boxes)
    # float32 may decide grazing rays differently; nothing else may differ.
    differs = hits.box != which
    assert differs.mean() < 2e-3
    same = ~differs & (which >= 0)
    assert same.sum() > 100
    np.testing.assert_allclose(hits.distance[same], distance[same], rtol=1e-4)


def test_cast_in_small_portions_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    grid, boxes = _grids()["CAM_FRONT"], _random_boxes(np.random.default_rng(3), 30)
    owner = np.arange(30, dtype=np.int32) // 3
    whole = cast(grid, boxes, owner, 10)
    monkeypatch.setattr(raycast, "_PAIRS_AT_ONCE", 100)
    parts = cast(grid, boxes, owner, 10)
    np.testing.assert_array_equal(whole.distance, parts.distance)
    np.testing.assert_array_equal(whole.box, parts.box)
    np.testing.assert_array_equal(whole.alone, parts.alone)


def test_rays_if_alone_do_not_depend_on_what_is_in_front() -> None:
    grid = _grids()["CAM_FRONT"]
    target = Boxes(np.array([[15.0, 0.0, 1.0]]), np.array([[2.0, 1.0, 1.0]]), np.array([0.3]))
    both = Boxes(
        np.array([[15.0, 0.0, 1.0], [8.0, 0.3, 1.0]]),
        np.array([[2.0, 1.0, 1.0], [0.2, 1.0, 1.0]]),
        np.array([0.3, 0.0]),
    )
    free = cast(grid, target, np.array([0], dtype=np.int32), 1)
    hidden = cast(grid, both, np.array([0, -1], dtype=np.int32), 1)
    assert free.alone[0] == hidden.alone[0] == (free.box == 0).sum() > 20
    assert (hidden.box == 0).sum() < 0.8 * free.alone[0]
