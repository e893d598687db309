from __future__ import annotations

import numpy as np

from bevkd.data.depth import depth_map
from bevkd.geometry import pose, quaternion_from_matrix

K = np.array([[100.0, 0, 88], [0, 100, 32], [0, 0, 1]])
# Camera axes (right, down, forward) in an ego frame with x forward, y left, z up.
AXES = np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])
EGO_FROM_CAMERA = pose([1.0, 0.0, 1.5], quaternion_from_matrix(AXES))


def depths(points: list[list[float]], image_aug: np.ndarray | None = None) -> np.ndarray:
    aug = np.eye(3) if image_aug is None else image_aug
    return depth_map(np.float32(points), EGO_FROM_CAMERA, K, aug, (64, 176), (64, 176), 8)


def test_projection_by_hand() -> None:
    # 10 m ahead of the camera, 2 m left, 1 m up: u = 88 - 100 * 2 / 10 = 68, v = 32 - 100 * 1 / 10 = 22.
    out = depths([[11.0, 2.0, 2.5]])
    assert out.shape == (8, 22)
    assert out[2, 8] == 10
    assert (out > 0).sum() == 1


def test_the_nearest_point_of_a_block_wins_in_any_order() -> None:
    points = [[11.0, 2.0, 2.5], [6.0, 1.0, 2.0], [21.0, 4.0, 3.5]]  # on one ray
    for order in ([0, 1, 2], [1, 2, 0], [2, 0, 1]):
        out = depths([points[i] for i in order])
        assert out[2, 8] == 5
        assert (out > 0).sum() == 1


def test_points_behind_and_outside_leave_no_depth() -> None:
    behind, left, below, border = [-9.0, 0.0, 1.5], [11.0, 9.0, 1.5], [11.0, 0.0, -4.0], [11.0, 8.75, 1.5]
    assert not depths([behind, left, below, border]).any()  # the last one is half a pixel inside the image


def test_image_augmentation_moves_the_blocks() -> None:
    flip = np.array([[-1.0, 0, 176], [0, 1, 0], [0, 0, 1]])
    out = depths([[11.0, 2.0, 2.5]], flip)
    assert out[2, (176 - 68) // 8] == 10
    shift = np.array([[1.0, 0, -80], [0, 1, 0], [0, 0, 1]])
    assert not depths([[11.0, 2.0, 2.5]], shift).any()


def test_matches_a_loop_over_random_points() -> None:
    rng = np.random.default_rng(0)
    points = rng.uniform([0, -30, -2], [40, 30, 5], (800, 3))
    expected = np.zeros((8, 22))
    for x, y, z in points:
        right, down, ahead = -y, -(z - 1.5), x - 1.0
        if ahead <= 0:
            continue
        u, v = 88 + 100 * right / ahead, 32 + 100 * down / ahead
        if 1 < u < 175 and 1 < v < 63:
            row, column = int(v // 8), int(u // 8)
            if expected[row, column] == 0 or ahead < expected[row, column]:
                expected[row, column] = ahead
    np.testing.assert_allclose(depths(points.tolist()), expected, rtol=1e-5)
    assert (expected > 0).mean() > 0.3
