from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bevkd.models.ops import rotated
from bevkd.models.ops.peaks import highest_near
from bevkd.models.ops.rotated import (
    corners_bev,
    intersection_area,
    iou_3d,
    iou_bev,
    iou_nearest_bev,
    nms_circle,
    nms_rotated,
    pairwise_iou_bev,
    suppress,
)

shapely = pytest.importorskip("shapely")


def polygon(rectangle: torch.Tensor) -> object:
    return shapely.Polygon(corners_bev(rectangle).numpy())


coordinate = st.floats(-4, 4, allow_nan=False)
size = st.floats(0.05, 8)
angle = st.floats(-7, 7) | st.sampled_from([0.0, math.pi / 2, math.pi, -math.pi / 4])
rectangle = st.tuples(coordinate, coordinate, size, size, angle)


# Edges that all but coincide: without a grid to round to, shapely finds nothing in common.
COINCIDING = (
    (1.3439701218058827e-14, 0.0, 5.5625, 5.5625, -math.pi / 4),
    (0.0, 1.3439701218058827e-14, 6.0, 5.5625, -math.pi / 4),
)


@settings(max_examples=400, deadline=None)
@given(rectangle, rectangle)
@example(*COINCIDING)
def test_intersection_equals_shapely(a: tuple[float, ...], b: tuple[float, ...]) -> None:
    ta, tb = torch.tensor(a, dtype=torch.float64), torch.tensor(b, dtype=torch.float64)
    expected = shapely.intersection(polygon(ta), polygon(tb), grid_size=1e-9).area
    assert float(intersection_area(ta, tb)) == pytest.approx(expected, abs=1e-6)
    assert float(intersection_area(tb, ta)) == pytest.approx(expected, abs=1e-6)


def test_intersection_float32_on_many_random_pairs() -> None:
    rng = np.random.default_rng(0)
    a = torch.tensor(rng.uniform([-50, -50, 0.3, 0.3, -4], [50, 50, 12, 4, 4], (300, 5)), dtype=torch.float32)
    b = a + torch.tensor(rng.normal(0, [1, 1, 0.3, 0.3, 0.5], (300, 5)), dtype=torch.float32)
    b[:, 2:4] = b[:, 2:4].clamp(min=0.2)
    expected = [polygon(p).intersection(polygon(q)).area for p, q in zip(a.double(), b.double(), strict=True)]
    np.testing.assert_allclose(intersection_area(a, b).numpy(), expected, atol=2e-4)


@pytest.mark.parametrize("yaw", [0.0, 0.3, math.pi / 2, -2.0])
def test_identical_and_touching_boxes(yaw: float) -> None:
    box = torch.tensor([3.0, -2.0, 1.0, 4.0, 2.0, 1.5, yaw])
    assert float(iou_bev(box, box)) == pytest.approx(1, abs=1e-5)
    assert float(iou_3d(box, box)) == pytest.approx(1, abs=1e-5)
    turned = box.clone()
    turned[6] += math.pi
    assert float(iou_bev(box, turned)) == pytest.approx(1, abs=1e-5)
    beside = box.clone()
    beside[0] += 4 * math.cos(yaw)
    beside[1] += 4 * math.sin(yaw)
    assert float(iou_bev(box, beside)) == pytest.approx(0, abs=1e-5)


def test_iou_3d_takes_rotation_and_height_into_account() -> None:
    a = torch.tensor([0.0, 0, 0, 4, 2, 2, 0])
    cross = torch.tensor([0.0, 0, 0, 4, 2, 2, math.pi / 2])  # overlap 2 x 2 x 2 of 16 each
    assert float(iou_3d(a, cross)) == pytest.approx(8 / (16 + 16 - 8), abs=1e-6)
    higher = torch.tensor([0.0, 0, 1, 4, 2, 2, 0])  # overlap 4 x 2 x 1
    assert float(iou_3d(a, higher)) == pytest.approx(8 / 24, abs=1e-6)
    assert float(iou_3d(a, torch.tensor([0.0, 0, 3, 4, 2, 2, 0]))) == 0


def test_iou_gradient_matches_finite_differences() -> None:
    rng = np.random.default_rng(1)
    a = torch.tensor(rng.uniform([-1, -1, -0.3, 3, 1.5, 1, -3], [1, 1, 0.3, 5, 2.5, 2, 3], (6, 7)), requires_grad=True)
    b = torch.tensor(rng.uniform([-1, -1, -0.3, 3, 1.5, 1, -3], [1, 1, 0.3, 5, 2.5, 2, 3], (6, 7)))
    assert torch.autograd.gradcheck(lambda x: iou_3d(x, b), (a,), eps=1e-6, atol=1e-5)


def test_gradient_is_finite_for_parallel_and_disjoint_boxes() -> None:
    a = torch.tensor([[0.0, 0, 0, 4, 2, 2, 0], [50.0, 0, 0, 4, 2, 2, 0], [0, 0, 0, 4, 2, 2, 0]], requires_grad=True)
    b = torch.tensor([[0.0, 0, 0, 4, 2, 2, 0], [0.0, 0, 0, 4, 2, 2, 0], [1, 0, 0, 4, 2, 2, math.pi / 2]])
    iou_3d(a, b).sum().backward()
    assert a.grad is not None
    assert torch.isfinite(a.grad).all()


def test_nearest_bev_turns_boxes_to_the_nearest_axis() -> None:
    a = torch.tensor([0.0, 0, 0, 4, 2, 1, math.radians(80)])  # nearly along y: 2 wide in x, 4 in y
    b = torch.tensor([0.0, 0, 0, 2, 4, 1, 0.0])
    assert float(iou_nearest_bev(a, b)) == pytest.approx(1)
    c = torch.tensor([0.0, 0, 0, 4, 2, 1, math.radians(-10)])
    assert float(iou_nearest_bev(c, b)) == pytest.approx(4 / 12)


def random_boxes(n: int, seed: int, spread: float) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    low, high = [-spread, -spread, -1, 1, 0.5, 1, -4], [spread, spread, 1, 6, 2.5, 2, 4]
    return torch.tensor(rng.uniform(low, high, (n, 7)), dtype=torch.float32)


def greedy(ious: np.ndarray, ranks: np.ndarray, threshold: float) -> list[int]:
    kept: list[int] = []
    for i in np.argsort(-ranks, kind="stable"):
        if all(ious[i, j] <= threshold for j in kept):
            kept.append(int(i))
    return kept


@pytest.mark.parametrize("seed", range(5))
def test_nms_equals_sequential_greedy(seed: int) -> None:
    boxes = random_boxes(120, seed, 12)
    ranks = torch.tensor(np.random.default_rng(seed).integers(0, 30, 120) / 30)  # with ties
    ious = iou_bev(boxes[:, None], boxes[None]).numpy()
    assert nms_rotated(boxes, ranks, 0.1).tolist() == greedy(ious, ranks.numpy(), 0.1)
    torch.testing.assert_close(pairwise_iou_bev(boxes, boxes), torch.from_numpy(ious))


def test_nms_groups_do_not_see_each_other() -> None:
    boxes = random_boxes(60, 7, 5)
    ranks, group = torch.rand(60, generator=torch.Generator().manual_seed(0)), torch.arange(60) % 3
    kept = set(nms_rotated(boxes, ranks, 0.1, group).tolist())
    apart = set()
    for g in range(3):
        member = (group == g).nonzero().squeeze(1)
        apart |= set(member[nms_rotated(boxes[member], ranks[member], 0.1)].tolist())
    assert kept == apart


@pytest.mark.parametrize("at_a_time", [1, 60, 1 << 17])
def test_near_pairs_of_groups_of_any_size(at_a_time: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many groups are looked at in one go: those of a loop over all pairs."""
    monkeypatch.setattr(rotated, "_PAIRS", at_a_time)
    generator = torch.Generator().manual_seed(7)
    boxes = torch.rand(60, 7, generator=generator) * torch.tensor([20, 20, 1, 4, 2, 2, 6.0])
    group = torch.tensor([0] * 30 + [5] * 1 + [9] * 3 + [2] * 26)[torch.randperm(60, generator=generator)]
    half, reach = boxes[:, 3:5].norm(dim=1) / 2, torch.rand(60, generator=generator) * 4
    for limit in (None, reach):
        first, second = rotated.near_pairs(boxes, group, limit)
        wanted = {
            (i, j)
            for i in range(60)
            for j in range(i + 1, 60)
            if group[i] == group[j]
            and (boxes[i, :2] - boxes[j, :2]).norm() < (half[i] + half[j] if limit is None else limit[i])
        }
        assert len(first) == len(wanted)
        assert set(zip(first.tolist(), second.tolist(), strict=True)) == wanted


@pytest.mark.parametrize("window", [1, 3, 5, 9])
def test_highest_near_equals_max_pooling(window: int) -> None:
    maps = torch.randn(2, 3, 6, 4, generator=torch.Generator().manual_seed(window))
    for some in (maps, maps.bfloat16(), maps.contiguous(memory_format=torch.channels_last), maps[..., :1]):
        before = some.clone()
        pooled = torch.nn.functional.max_pool2d(some, window, stride=1, padding=window // 2)
        assert torch.equal(highest_near(some, window), pooled)
        assert torch.equal(some, before)


def test_suppression_chain_needs_the_fixed_point() -> None:
    # 0 drops 1, which then spares 2, which drops 3.
    keep = suppress(torch.tensor([0, 1, 2]), torch.tensor([1, 2, 3]), 4)
    assert keep.tolist() == [True, False, True, False]


def test_circle_nms_uses_the_radius_of_the_better_box() -> None:
    boxes = torch.zeros(3, 7)
    boxes[:, 0] = torch.tensor([0.0, 1.5, 3.0])
    ranks = torch.tensor([0.9, 0.8, 0.7])
    assert nms_circle(boxes, ranks, torch.tensor([2.0, 2.0, 2.0])).tolist() == [0, 2]
    assert nms_circle(boxes, ranks, torch.tensor([1.0, 2.0, 2.0])).tolist() == [0, 1]


def test_nms_of_nothing() -> None:
    assert nms_rotated(torch.zeros(0, 7), torch.zeros(0), 0.1).tolist() == []
