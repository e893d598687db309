from __future__ import annotations

import math
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import torch
from models_batch import make_cameras
from torch.utils._python_dispatch import TorchDispatchMode

from bevkd.data.batch import Cameras
from bevkd.geometry import BEVGrid
from bevkd.models.ops.lift_splat import _plan_by_sorting, frustum_cells, lift_splat, plan_splat

GRID = BEVGrid(-16.0, -12.0, 0.8, 40, 30)  # not square
DEPTHS = torch.arange(2.0, 22.0, 1.0)
SIZE = (4, 11)


def rig(frames: int = 2) -> tuple[Cameras, torch.Tensor]:
    """A slightly perturbed camera ring and one flipped, rotated BEV augmentation per frame."""
    rng = np.random.default_rng(0)
    cameras = make_cameras(frames, (32, 88), cameras=3)
    aug = torch.eye(3).repeat(frames, 3, 1, 1)
    aug[..., 0, 0] = aug[..., 1, 1] = 0.9
    aug[..., :2, 2] = torch.from_numpy(rng.uniform(-3, 3, (frames, 3, 2)))
    bev = torch.eye(4).repeat(frames, 1, 1)
    cos, sin = np.cos(0.3), np.sin(0.3)
    bev[-1, :2, :2] = torch.tensor([[cos, -sin], [-sin, -cos]])
    bev[-1, :3, 3] = torch.tensor([0.4, -0.7, 0.1])
    return replace(cameras, image_aug=aug), bev


def reference_cells(cameras: Cameras, bev: torch.Tensor, z_range: tuple[float, float]) -> np.ndarray:
    """The same in float64, point by point, straight from the formula."""
    height, width = cameras.images.shape[-2:]
    b, n = cameras.images.shape[:2]
    out = np.full((b, n, *SIZE, len(DEPTHS)), -1)
    for i, j, row, column in np.ndindex(b, n, *SIZE):
        pixel = np.array([(width - 1) * column / (SIZE[1] - 1), (height - 1) * row / (SIZE[0] - 1), 1.0])
        source = np.linalg.inv(cameras.image_aug[i, j].double().numpy()) @ pixel
        ray = np.linalg.inv(cameras.intrinsics[i, j].double().numpy()) @ source
        to_ego = bev[i].double().numpy() @ cameras.ego_from_camera[i, j].double().numpy()
        for k, depth in enumerate(DEPTHS.tolist()):
            x, y, z, _ = to_ego @ np.append(ray * depth, 1.0)
            ix, iy = np.floor((x - GRID.x_min) / GRID.cell), np.floor((y - GRID.y_min) / GRID.cell)
            if 0 <= ix < GRID.W and 0 <= iy < GRID.H and z_range[0] <= z < z_range[1]:
                out[i, j, row, column, k] = (i * GRID.H + iy) * GRID.W + ix
    return out


def test_frustum_cells_equal_the_formula() -> None:
    cameras, bev = rig()
    cells = frustum_cells(cameras, bev, GRID, (-1.0, 3.0), DEPTHS, SIZE).numpy()
    expected = reference_cells(cameras, bev, (-1.0, 3.0))
    assert 0.2 < (expected >= 0).mean() < 0.95
    assert (cells != expected).mean() < 1e-3  # a point exactly on a border may fall either way in float32


def test_points_just_below_the_range_are_dropped() -> None:
    """Truncation toward zero would put the cell below the lower bound into cell 0, and heights likewise."""
    cameras = make_cameras(1, (32, 88), cameras=1)  # looks along +x from x = 0.5, z = 1.5
    cameras.intrinsics[..., 1, 2] = 31 / 2  # the middle one of three rows looks level
    grid = BEVGrid(3.0, -50.0, 1.0, 4, 100)
    cells = frustum_cells(cameras, torch.eye(4)[None], grid, (-50.0, 50.0), torch.tensor([2.2, 2.6]), (3, 3))
    cells = cells[0, 0, 1, 1]
    assert cells[0] == -1  # x = 2.7
    assert int(cells[1]) % grid.W == 0  # x = 3.1
    low = frustum_cells(cameras, torch.eye(4)[None], grid, (1.6, 9.6), torch.tensor([3.0]), (3, 3))
    assert (low[0, 0, 1] == -1).all()  # z = 1.5 lies less than a layer below the range


def plain_cells(cameras: Cameras, bev: torch.Tensor, z_range: tuple[float, float]) -> torch.Tensor:
    """The same arithmetic in the same precision, one operation after the other."""
    height, width = cameras.images.shape[-2:]
    v, u = (torch.linspace(0, last - 1, n, dtype=torch.float64) for last, n in zip((height, width), SIZE, strict=True))
    pixels = torch.stack([*torch.meshgrid(u, v, indexing="xy"), torch.ones(SIZE).double()])
    to_ego = bev.double()[:, None] @ cameras.ego_from_camera.double()
    inverse = torch.linalg.inv(cameras.image_aug.double() @ cameras.intrinsics.double())
    rays = ((to_ego[..., :3, :3] @ inverse) @ pixels.flatten(1)).unflatten(-1, SIZE).float()
    origin = to_ego[..., :3, 3].float()

    def along(axis: int, low: float, step: float) -> torch.Tensor:
        scaled = rays[:, :, axis, :, :, None] * (DEPTHS / step)
        return torch.floor(scaled + ((origin[..., axis] - low) / step)[:, :, None, None, None])

    ix, iy = along(0, GRID.x_min, GRID.cell), along(1, GRID.y_min, GRID.cell)
    layer = along(2, z_range[0], z_range[1] - z_range[0])
    inside = (ix >= 0) & (ix < GRID.W) & (iy >= 0) & (iy < GRID.H) & (layer == 0)
    frame = torch.arange(len(bev), dtype=torch.int32)[:, None, None, None, None]
    cell = (frame * GRID.H + torch.where(inside, iy, 0.0).int()) * GRID.W + torch.where(inside, ix, 0.0).int()
    return torch.where(inside, cell, -1)


def test_frustum_cells_are_those_of_plain_operations() -> None:
    """Bit for bit, also where points lie so far away that no integer holds their cell, or nowhere."""
    for far in (1.0, 1e12, math.nan):
        cameras, bev = rig()
        bev[1, :2, 3] *= far
        if far == 1.0:
            bev[1, 0, 3] += 1.5
        assert torch.equal(
            frustum_cells(cameras, bev, GRID, (-1.0, 3.0), DEPTHS, SIZE), plain_cells(cameras, bev, (-1.0, 3.0))
        )


def test_both_ways_to_a_plan_give_the_same(problem: tuple[torch.Tensor, torch.Tensor, torch.Tensor, int]) -> None:
    _, _, cells, count = problem
    generator = torch.Generator().manual_seed(3)
    crowded = torch.randint(-1, 5, (2, 3, 4, 6, 7), generator=generator, dtype=torch.int32)  # cells repeat in a pixel
    none = torch.full((1, 1, 2, 2, 3), -1, dtype=torch.int32)
    for held, total in ((cells, count), (crowded, 9), (none, 6)):
        one, other = plan_splat(held, total), _plan_by_sorting(held, total)
        for f in fields(one):
            ours, theirs = getattr(one, f.name), getattr(other, f.name)
            assert ours.dtype == theirs.dtype == torch.int32, f.name
            assert torch.equal(ours, theirs), f.name


def index_add_reference(context: torch.Tensor, depth: torch.Tensor, cells: torch.Tensor, count: int) -> torch.Tensor:
    product = (depth[:, :, None] * context[:, None, :]).flatten(0, 1)
    flat = cells.flatten().long()
    return torch.zeros(count, context.shape[1]).index_add(0, flat[flat >= 0], product[flat >= 0])


@pytest.fixture(scope="module")
def problem() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, int]:
    cameras, bev = rig()
    cells = frustum_cells(cameras, bev, GRID, (-1.0, 3.0), DEPTHS, SIZE)
    generator = torch.Generator().manual_seed(0)
    pixels = cells.numel() // len(DEPTHS)
    depth = torch.softmax(torch.randn(pixels, len(DEPTHS), generator=generator), dim=1)
    return torch.randn(pixels, 16, generator=generator), depth, cells, 2 * GRID.H * GRID.W


def test_equals_index_add_with_gradients(problem: tuple[torch.Tensor, torch.Tensor, torch.Tensor, int]) -> None:
    context, depth, cells, count = problem
    plan = plan_splat(cells, count)
    mine = [context.clone().requires_grad_(True), depth.clone().requires_grad_(True)]
    theirs = [context.clone().requires_grad_(True), depth.clone().requires_grad_(True)]
    out, expected = lift_splat(*mine, plan), index_add_reference(*theirs, cells, count)
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-5)
    assert (expected.abs().sum(1) > 0).float().mean() > 0.1
    upstream = torch.randn(out.shape, generator=torch.Generator().manual_seed(1))
    out.backward(upstream)
    expected.backward(upstream)
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a.grad, b.grad, atol=1e-5, rtol=1e-5)


class LargestTensor(TorchDispatchMode):
    """Records the largest number of elements that any operation returns."""

    largest = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for value in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(value, torch.Tensor):
                self.largest = max(self.largest, value.numel())
        return out


def test_no_tensor_of_depth_times_features_is_made(
    problem: tuple[torch.Tensor, torch.Tensor, torch.Tensor, int],
) -> None:
    context, depth, cells, count = problem
    outer = depth.numel() * context.shape[1]
    bev_map = count * context.shape[1]
    context, depth = context.clone().requires_grad_(True), depth.clone().requires_grad_(True)
    assert bev_map < outer
    with LargestTensor() as watch:
        lift_splat(context, depth, plan_splat(cells, count)).square().sum().backward()
    assert watch.largest <= bev_map
    with LargestTensor() as naive:  # the watch does see it where it is made
        index_add_reference(context, depth, cells, count)
    assert naive.largest == outer


def test_nothing_in_view_gives_zeros() -> None:
    cells = torch.full((1, 1, 2, 2, 3), -1, dtype=torch.int32)
    context = torch.randn(4, 5, requires_grad=True)
    out = lift_splat(context, torch.rand(4, 3), plan_splat(cells, 6))
    assert torch.equal(out, torch.zeros(6, 5))
    out.sum().backward()
    assert context.grad is not None
    assert context.grad.abs().sum() == 0
