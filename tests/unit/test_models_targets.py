from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bevkd.data.batch import Boxes
from bevkd.geometry import BEVGrid
from bevkd.models.boxcode import decode_cells, encode
from bevkd.models.heads.center_settings import CenterSettings
from bevkd.models.ops.cells import read_cells
from bevkd.models.targets import TargetAssigner, nine_nearest

GRID = BEVGrid(-9.0, -6.0, 0.6, 30, 20)  # 18 m x 12 m: not square


def boxes_of(*rows: tuple[float, float, int, int], size: tuple[float, float, float] = (4.6, 1.9, 1.7)) -> Boxes:
    """Boxes from (x, y, label, frame)."""
    box = torch.tensor([(x, y, 0.5, *size, 0.4, 1.0, -2.0) for x, y, _, _ in rows]).reshape(-1, 9)
    labels, frame = (torch.tensor([row[i] for row in rows]).long() for i in (2, 3))
    return Boxes(box, labels, frame, torch.ones(len(rows)))


@settings(max_examples=300, deadline=None)
@given(st.floats(-12, 42), st.floats(-12, 32))
def test_nine_nearest_equals_brute_force(u: float, v: float) -> None:
    ix, iy, distance = nine_nearest(torch.tensor([[u, v]], dtype=torch.float64), GRID.W, GRID.H)
    grid_y, grid_x = np.mgrid[0 : GRID.H, 0 : GRID.W]
    squared = ((grid_x - u) ** 2 + (grid_y - v) ** 2).ravel()
    np.testing.assert_allclose(distance[0].numpy(), np.sort(squared)[:9], atol=1e-9)
    assert len({(int(a), int(b)) for a, b in zip(ix[0], iy[0], strict=True)}) == 9
    assert bool(((ix >= 0) & (ix < GRID.W) & (iy >= 0) & (iy < GRID.H)).all())


def test_nine_nearest_is_not_always_a_square() -> None:
    ix, iy, _ = nine_nearest(torch.tensor([[10.5, 10.5]]), GRID.W, GRID.H)
    offsets = {(int(a) - 10, int(b) - 10) for a, b in zip(ix[0], iy[0], strict=True)}
    assert {(0, 0), (1, 0), (0, 1), (1, 1)} < offsets
    assert (2, 2) not in offsets  # 2.12 cells away; (-1, 0), (2, 1) and their like are 1.58 away


def test_nine_nearest_targets_by_hand() -> None:
    # Centre (-4.14, -1.2): u = 8.1, v = 8.0. The nine nearest anchors are the square around (8, 8).
    boxes = boxes_of((-4.14, -1.2, 2, 1))
    car, truck_cv = TargetAssigner(CenterSettings(), GRID)(boxes, 2)[:2]
    assert len(car.positive) == 0
    assert float(car.heatmap.sum()) == 0
    assert truck_cv.heatmap.shape == (2, 2, 20, 30)
    hot = truck_cv.heatmap.nonzero().tolist()
    assert hot == [[1, 1, y, x] for y in (7, 8, 9) for x in (7, 8, 9)]
    assert truck_cv.positive.tolist() == [(20 + y) * 30 + x for y in (7, 8, 9) for x in (7, 8, 9)]
    first = truck_cv.regression[0].tolist()  # anchor (7, 7)
    expected = [1.1, 1.0, 0.5, *np.log([4.6, 1.9, 1.7]), math.sin(0.4), math.cos(0.4), 1.0, -2.0]
    assert first == pytest.approx(expected, abs=1e-5)
    assert truck_cv.box.tolist() == [0] * 9


def test_a_contested_anchor_belongs_to_the_nearest_box() -> None:
    boxes = boxes_of(
        (-4.2, -1.2, 0, 0), (-3.0, -1.2, 0, 0)
    )  # u = 8 and 10 in one row: anchors with x = 9 are contested
    target = TargetAssigner(CenterSettings(), GRID)(boxes, 1)[0]
    owner = dict(zip((target.positive % GRID.W).tolist(), target.box.tolist(), strict=True))
    assert owner[8] == owner[7] == 0
    assert owner[10] == owner[11] == 1
    assert owner[9] == 0  # equally far: the first box
    nearer = TargetAssigner(CenterSettings(), GRID)(boxes_of((-4.26, -1.2, 0, 0), (-3.0, -1.2, 0, 0)), 1)[0]
    owner = dict(zip((nearer.positive % GRID.W).tolist(), nearer.box.tolist(), strict=True))
    assert owner[9] == 1
    assert len(target.positive) == len(target.positive.unique()) == 15


def drawn(seed: int, count: int) -> Boxes:
    """Boxes close to each other, some of them beyond the border."""
    rng = np.random.default_rng(seed)
    places = rng.uniform([-10, -7], [-4, -2], (count, 2))
    frames = np.sort(rng.integers(0, 2, count))
    return boxes_of(*zip(*places.T, rng.integers(0, 4, count), frames, strict=True))


@pytest.mark.parametrize("compact", [True, False])
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), count=st.integers(0, 12))
def test_a_cell_belongs_to_the_nearest_box_of_the_task(compact: bool, seed: int, count: int) -> None:
    """Whichever box brought it in: the matrix of all distances, written out (UniDistill spec, 4.6)."""
    boxes, head = drawn(seed, count), CenterSettings()
    uv = GRID.to_cells(boxes.boxes[:, :2].double()).numpy()
    grid_y, grid_x = np.mgrid[0 : GRID.H, 0 : GRID.W]
    order = iter(range(10))
    for names, target in zip(head.tasks, TargetAssigner(head, GRID)(boxes, 2, compact=compact), strict=True):
        slots = {next(order): slot for slot in range(len(names))}
        target = target.compacted()
        expected, heat = {}, np.zeros((2, len(names), GRID.H, GRID.W))
        for frame in range(2):
            own = [i for i in range(count) if int(boxes.labels[i]) in slots and int(boxes.frame[i]) == frame]
            squared = np.array([((grid_x - uv[i, 0]) ** 2 + (grid_y - uv[i, 1]) ** 2).ravel() for i in own])
            for cell in {int(c) for row in squared for c in np.argsort(row, kind="stable")[:9]}:
                owner = own[int(squared[:, cell].argmin())]
                expected[frame * GRID.H * GRID.W + cell] = owner
                heat[frame, slots[int(boxes.labels[owner])]].flat[cell] = 1
        assert dict(zip(target.positive.tolist(), target.box.tolist(), strict=True)) == expected
        assert target.heatmap.numpy().tolist() == heat.tolist()
        ix = target.positive % GRID.W
        np.testing.assert_allclose(target.regression[:, 0].numpy(), uv[target.box, 0] - ix.numpy(), atol=1e-5)


def test_a_cell_goes_to_a_box_that_did_not_bring_it_in() -> None:
    """Cell (10, 11) is one of the nine of (8.3, 10.8) alone, 1.712 cells away; (11.6, 11.6) is 1.709 away."""
    rows = [(GRID.x_min + u * GRID.cell, GRID.y_min + v * GRID.cell, 0, 0) for u, v in ((8.3, 10.8), (11.6, 11.6))]
    nine = [
        nine_nearest(torch.tensor([[u, v]], dtype=torch.float64), GRID.W, GRID.H)[:2]
        for u, v in ((8.3, 10.8), (11.6, 11.6))
    ]
    brought = [{(int(a), int(b)) for a, b in zip(ix[0], iy[0], strict=True)} for ix, iy in nine]
    assert [(10, 11) in cells for cells in brought] == [True, False]
    target = TargetAssigner(CenterSettings(), GRID)(boxes_of(*rows), 1)[0]
    owners = dict(zip(target.positive.tolist(), target.box.tolist(), strict=True))
    assert owners.keys() == {y * GRID.W + x for cells in brought for x, y in cells}
    assert owners[11 * GRID.W + 10] == 1


def test_boxes_of_different_tasks_do_not_compete() -> None:
    targets = TargetAssigner(CenterSettings(), GRID)(boxes_of((0, 0, 0, 0), (0, 0, 8, 0)), 1)
    assert [len(t.positive) for t in targets] == [9, 0, 0, 0, 0, 9]
    assert targets[5].box.tolist() == [1] * 9


def test_gaussian_targets_by_hand() -> None:
    head = CenterSettings(targets="gaussian", min_overlap=0.1, min_radius=2)
    boxes = boxes_of((-4.14, -1.17, 2, 1), size=(0.7, 0.7, 1.8))  # small: the minimum radius 2 holds
    target = TargetAssigner(head, GRID)(boxes, 2)[1]
    assert target.positive.tolist() == [(20 + 8) * 30 + 8]
    assert target.regression[0, :2].tolist() == pytest.approx([0.1, 0.05], abs=1e-5)  # from the corner of the cell
    peak = target.heatmap[1, 1]
    assert float(peak[8, 8]) == 1
    assert float(peak[8, 9]) == pytest.approx(0.48675, abs=1e-5)
    assert float(peak[9, 9]) == pytest.approx(0.23693, abs=1e-5)
    assert float(peak[8, 10]) == pytest.approx(0.05613, abs=1e-5)
    assert float(peak[10, 10]) == pytest.approx(0.00315, abs=1e-5)
    assert float(peak[8, 11]) == 0
    assert float(target.heatmap.sum()) == pytest.approx(float(peak.sum()))


def test_gaussian_radius_follows_the_box_and_drops_centres_outside() -> None:
    head = CenterSettings(targets="gaussian", min_overlap=0.1, min_radius=2)
    bus = TargetAssigner(head, GRID)(boxes_of((0, 0, 3, 0), size=(10.5, 2.94, 3.5)), 1)[2]
    assert int((bus.heatmap[0, 0, 10] > 0).sum()) > 5  # wider than the minimum radius allows
    outside = TargetAssigner(head, GRID)(boxes_of((9.3, 0, 0, 0), (0, -6.1, 0, 0)), 1)[0]
    assert len(outside.positive) == 0
    assert float(outside.heatmap.sum()) == 0


def test_unknown_classes_are_ignored_and_no_boxes_are_fine() -> None:
    head = CenterSettings(tasks=(("car",), ("truck",)))
    for targets in ("nine_nearest", "gaussian"):
        assign = TargetAssigner(CenterSettings(tasks=head.tasks, targets=targets), GRID)
        assert [len(t.positive) for t in assign(boxes_of((0, 0, 9, 0), (0, 0, 2, 0)), 1)] == [0, 0]
        empty = assign(Boxes.empty(), 3)
        assert empty[0].heatmap.shape == (3, 1, 20, 30)
        assert empty[1].regression.shape == (0, 10)


@pytest.mark.parametrize("cells", [1, 9])
@pytest.mark.parametrize("kind", ["nine_nearest", "gaussian"])
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), count=st.integers(0, 40))
def test_candidates_with_weights_are_the_compact_targets(kind: str, cells: int, seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    places = rng.uniform([-11, -8], [11, 8], (count, 2))  # beyond the border, too
    frames = np.sort(rng.integers(0, 3, count))
    boxes = boxes_of(*zip(*places.T, rng.integers(0, 11, count), frames, strict=True))  # class 10 has no task
    assign = TargetAssigner(CenterSettings(targets=kind, regression_cells=cells), GRID)
    for kept, every in zip(assign(boxes, 3, compact=True), assign(boxes, 3, compact=False), strict=True):
        counts = every.counted == 1
        assert bool(((every.counted == 0) | counts).all())
        assert bool((kept.counted == 1).all())
        assert torch.equal(kept.heatmap, every.heatmap)
        assert int(kept.peaks) == int(every.peaks) == int((kept.heatmap == 1).any(1).sum())
        for name in ("positive", "regression", "box"):
            assert torch.equal(getattr(kept, name), getattr(every, name)[counts])
        assert len(every.positive) in (count, 9 * count)
        assert bool(torch.isfinite(every.regression).all())
        assert bool((every.positive[~counts] == 0).all())


def test_decode_inverts_encode_on_a_grid_that_is_not_square() -> None:
    rng = np.random.default_rng(0)
    low = [-8.9, -5.9, -2, 0.3, 0.3, 0.5, -3.1, -5, -5]
    boxes = torch.tensor(rng.uniform(low, [8.9, 5.9, 2, 12, 3, 4, 3.1, 5, 5], (50, 9)))
    uv = GRID.to_cells(boxes[:, :2])
    ix, iy, _ = nine_nearest(uv, GRID.W, GRID.H)
    for k in (0, 8):
        cell = (torch.arange(50) * GRID.H + iy[:, k]) * GRID.W + ix[:, k]
        decoded = decode_cells(encode(boxes, uv, ix[:, k], iy[:, k]), cell, GRID)
        torch.testing.assert_close(decoded, boxes, atol=1e-9, rtol=0)


def test_sizes_beyond_all_measure_have_no_gradient() -> None:
    """Not even of infinity times zero: the term on the overlap is multiplied by 0 where it waits."""
    code = torch.zeros(4, 10)
    code[:, 3] = torch.tensor([1.0, 3.5, 95.0, 1e4])
    code.requires_grad_(True)
    decoded = decode_cells(code, torch.zeros(4).long(), GRID)
    assert decoded[:, 3].tolist() == pytest.approx([math.e, 30.0, 30.0, 30.0])
    decoded.sum().backward()
    assert code.grad is not None
    assert code.grad[:, 3].tolist() == pytest.approx([math.e, 0.0, 0.0, 0.0])


def test_reading_cells_reads_row_and_column() -> None:
    maps = torch.arange(2 * 3 * 4 * 5.0).view(2, 3, 4, 5)
    assert read_cells(maps, torch.tensor([(1 * 4 + 2) * 5 + 3])).tolist() == [maps[1, :, 2, 3].tolist()]
