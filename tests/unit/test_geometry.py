from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bevkd.geometry import (
    Area,
    BEVGrid,
    apply,
    box_corners,
    box_corners_bev,
    invert,
    points_in_boxes,
    pose,
    quaternion_from_matrix,
    quaternion_from_yaw,
    rotation_from_quaternion,
    transform_boxes,
    wrap_angle,
    yaw_from_rotation,
)

angles = st.floats(-10, 10)
metres = st.floats(-100, 100)
quaternions = st.tuples(*[st.floats(-1, 1)] * 4).filter(lambda q: np.linalg.norm(q) > 0.1)


@given(quaternions, st.tuples(metres, metres, metres))
def test_poses_invert_and_agree_with_pyquaternion(q: tuple, t: tuple) -> None:
    matrix = pose(t, q)
    np.testing.assert_allclose(invert(matrix) @ matrix, np.eye(4), atol=1e-9)
    pyquaternion = pytest.importorskip("pyquaternion")
    np.testing.assert_allclose(matrix[:3, :3], pyquaternion.Quaternion(q).unit.rotation_matrix, atol=1e-9)
    again = rotation_from_quaternion(quaternion_from_matrix(matrix[:3, :3]))
    np.testing.assert_allclose(again, matrix[:3, :3], atol=1e-9)


@given(angles)
def test_yaw_survives_a_quaternion(yaw: float) -> None:
    back = yaw_from_rotation(rotation_from_quaternion(quaternion_from_yaw(yaw)))
    assert abs(wrap_angle(back - yaw)) < 1e-9


@pytest.mark.parametrize("bad", [(0, 0, 0, 0), (math.nan, 0, 0, 1), (math.inf, 0, 0, 0)])
def test_bad_quaternions_are_refused(bad: tuple) -> None:
    with pytest.raises(ValueError, match="quaternion"):
        pose((0, 0, 0), bad)


def test_crucial_corner_order_is_the_golden_one() -> None:
    corners = box_corners_bev(np.array([[10.0, -4, 0, 4, 2, 1, math.radians(30)]]))[0]
    golden = [[8.7679, -5.8660], [7.7679, -4.1340], [11.2321, -2.1340], [12.2321, -3.8660]]
    np.testing.assert_allclose(corners, golden, atol=1e-4)  # UniDistill spec, section 14


@given(metres, metres, angles, st.floats(0.2, 10), st.floats(0.2, 10), angles, metres)
@settings(deadline=None)
def test_membership_is_invariant_under_rigid_motion(
    x: float, y: float, yaw: float, length: float, width: float, turn: float, shift: float
) -> None:
    box = np.array([[x, y, 1.0, length, width, 2.0, yaw, 3.0, -1.0]])
    rng = np.random.default_rng(0)
    points = box[0, :3] + rng.uniform(-1, 1, (64, 3)) * [length, length, 2]
    moved_by = pose((shift, -shift, 0.5), quaternion_from_yaw(turn))
    near_edge = points_in_boxes(points, box, margin=1e-6) ^ points_in_boxes(points, box, margin=-1e-6)
    before = points_in_boxes(points, box)
    moved = transform_boxes(moved_by, box)
    after = points_in_boxes(apply(moved_by, points), moved)
    assert ((before == after) | near_edge).all()
    assert np.hypot(*moved[0, 7:9]) == pytest.approx(np.hypot(3, -1))
    np.testing.assert_allclose(
        np.sort(box_corners(moved)[0], axis=0),
        np.sort(apply(moved_by, box_corners(box)[0]), axis=0),
        atol=1e-9,
    )


def test_cells_on_a_non_square_grid() -> None:
    grid = BEVGrid(-54.0, -48.0, 0.6, 180, 160)
    uv = grid.to_cells(torch.tensor([[30.0, -12.0]], dtype=torch.float64))
    torch.testing.assert_close(uv, torch.tensor([[140.0, 60.0]], dtype=torch.float64))
    torch.testing.assert_close(grid.to_world(uv), torch.tensor([[30.0, -12.0]], dtype=torch.float64))
    index, inside = grid.indices(torch.tensor([[30.1, -11.9], [53.9, 47.9], [-54.1, 0.0], [0.0, 48.0]]))
    assert index[:2].tolist() == [60 * 180 + 140, 159 * 180 + 179]
    assert inside.tolist() == [True, True, False, False]
    assert grid.cell_centres().shape == (160, 180, 2)
    torch.testing.assert_close(grid.cell_centres()[60, 140], torch.tensor([30.3, -11.7]))


def test_points_just_below_the_edge_are_outside() -> None:
    grid = BEVGrid.centred(54.0, 0.6)
    _, inside = grid.indices(torch.tensor([[-54.3, 0.0], [-53.99, 0.0]]))
    assert inside.tolist() == [False, True]


def test_golden_cell_coordinates() -> None:
    grid = BEVGrid.centred(54.0, 0.6)
    centre = torch.tensor([[10.0, -4.0]], dtype=torch.float64)
    torch.testing.assert_close(
        grid.to_cells(centre), torch.tensor([[106.6667, 83.3333]], dtype=torch.float64), atol=1e-4, rtol=0
    )
    torch.testing.assert_close(
        grid.normalised(centre), torch.tensor([[0.185185, -0.074074]], dtype=torch.float64), atol=1e-6, rtol=0
    )


def test_a_grid_must_divide() -> None:
    with pytest.raises(ValueError, match="cannot be cut"):
        BEVGrid.centred(54.0, 0.7)
    assert BEVGrid.centred(54.0, 0.6).refined(8).W == 1440
    assert BEVGrid.centred(54.0, 0.6).scaled(4).H == 45


def test_a_grid_over_an_area_that_is_not_square() -> None:
    """PointPillars' KITTI range: 69.12 m ahead, 39.68 m to either side, pillars of 0.16 m."""
    area = Area(0.0, 69.12, -39.68, 39.68)
    grid = BEVGrid.over(area, 0.16)
    assert (grid.W, grid.H) == (432, 496)
    assert (grid.x_min, grid.y_min) == (0.0, -39.68)
    assert grid.x_max == pytest.approx(69.12)
    points = np.array([[0, 0, 9], [69.12, 39.68, 9], [-0.01, 0, 9], [1, 40, 9], [70, 0, 9]], dtype=np.float64)
    assert area.holds(points).tolist() == [True, True, False, False, False]
    for bad in (Area(0.0, 69.1, -39.68, 39.68), Area(1.0, 0.0, -1.0, 1.0)):
        with pytest.raises(ValueError, match="cannot be cut"):
            BEVGrid.over(bad, 0.16)
