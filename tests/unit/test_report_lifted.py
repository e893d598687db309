"""Which object counts as mis-lifted, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from bevkd.geometry import BEVGrid
from bevkd.report.lifted import outside_over_inside

GRID = BEVGrid(-8.0, -6.0, 1.0, 16, 12)  # not square, to catch exchanged axes


def box(x: float, y: float, length: float = 2.0, width: float = 2.0, yaw: float = 0.0) -> np.ndarray:
    return np.array([x, y, 0.7, length, width, 1.5, yaw, 0.0, 0.0])


def energy(**places: float) -> np.ndarray:
    """1 everywhere, but in cells named by their indices, `x12_y6`."""
    out = np.ones((GRID.H, GRID.W))
    for name, value in places.items():
        ix, iy = (int(part[1:]) for part in name.split("_"))
        out[iy, ix] = value
    return out


def test_what_lies_behind_the_object_counts() -> None:
    ahead = box(4.0, 0.0)  # cells 11 and 12 along x, 5 and 6 along y, centres 3.5, 4.5 and -0.5, 0.5
    assert outside_over_inside(energy(), np.stack([ahead]), GRID, 3.0) == pytest.approx([1.0])
    # Within 3 m of the centre and 1 m of the line of sight: cells 9, 10, 13 and 14, but for their outer corners at
    # hypot(2.5, 0.5) = 2.55 m, which are within.
    behind = energy(x13_y5=9.0)
    assert outside_over_inside(behind, np.stack([ahead]), GRID, 3.0) == pytest.approx([(7 + 9) / 8])
    beside = energy(x11_y8=9.0)
    assert outside_over_inside(beside, np.stack([ahead]), GRID, 3.0) == pytest.approx([1.0])
    inside = energy(x11_y5=5.0)
    assert outside_over_inside(inside, np.stack([ahead]), GRID, 3.0) == pytest.approx([1 / 2])


def test_the_line_of_sight_goes_through_the_vehicle() -> None:
    left = box(0.0, 3.0)  # to the left: the line of sight is along y
    assert outside_over_inside(energy(x8_y10=9.0), np.stack([left]), GRID, 3.0)[0] > 1.5
    assert outside_over_inside(energy(x10_y9=9.0), np.stack([left]), GRID, 3.0) == pytest.approx([1.0])


def test_cells_of_other_objects_do_not_count() -> None:
    both = np.stack([box(4.0, 0.0), box(6.0, 0.0)])
    assert outside_over_inside(energy(x13_y5=9.0), both, GRID, 3.0)[0] == pytest.approx(1.0)


def test_small_boxes_have_the_cell_at_their_centre() -> None:
    small = box(4.9, 0.9, 0.1, 0.1)
    found = outside_over_inside(energy(x12_y6=4.0), np.stack([small]), GRID, 2.0)
    assert found == pytest.approx([1 / 4])


def test_boxes_of_a_cell_or_two_can_be_left_out() -> None:
    both = np.stack([box(4.9, 0.9, 0.1, 0.1), box(4.0, 0.0)])
    some, all_ = (outside_over_inside(energy(), both, GRID, 3.0, least) for least in (4, 0))
    assert some == pytest.approx([0.0, 1.0])
    assert all_[0] > 0


def test_without_boxes_or_energy_nothing_is_chosen() -> None:
    assert outside_over_inside(energy(), np.zeros((0, 9)), GRID, 3.0).shape == (0,)
    assert outside_over_inside(np.zeros((GRID.H, GRID.W)), np.stack([box(4.0, 0.0)]), GRID, 3.0).tolist() == [0.0]
