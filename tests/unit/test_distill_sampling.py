"""Reading maps at cells and points, against indexing, `grid_sample` and `conv2d` of PyTorch."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from bevkd.distill.sampling import gather_cells, gather_patches, point_plan, read_points
from bevkd.models.ops.cells import read_cells

SIZE = (7, 9)  # H, W


def some_maps(channels: int = 5, frames: int = 3) -> torch.Tensor:
    g = torch.Generator().manual_seed(1)
    maps = torch.randn(frames, channels, *SIZE, generator=g).to(memory_format=torch.channels_last)
    return maps.requires_grad_()


def some_points(count: int = 20, reach: float = 1.3) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(2)
    points = (torch.rand(count, 4, 2, generator=g) * 2 - 1) * reach
    return points, torch.randint(0, 3, (count,), generator=g)


def test_rows_and_their_gradient_equal_indexing() -> None:
    cell = torch.tensor([[0, 5, 5], [188, 62, 5]])  # one cell three times
    weight = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(3))
    gradients = []
    for read in (read_cells, lambda maps, at: maps.flatten(2).transpose(1, 2).reshape(-1, 5)[at]):
        maps = some_maps()
        rows = read(maps, cell)
        assert torch.equal(rows[0, 1], maps[0, :, 0, 5])
        (rows * weight).sum().backward()
        gradients.append(maps.grad)
    assert gradients[0] is not None
    torch.testing.assert_close(gradients[0], gradients[1])


def test_the_gradient_lies_in_memory_like_that_of_a_convolution() -> None:
    maps = some_maps()
    seen: list[torch.Tensor] = []
    inner = maps * 1.0
    inner.register_hook(seen.append)
    read_cells(inner, torch.tensor([3, 4])).sum().backward()
    assert seen[0].is_contiguous(memory_format=torch.channels_last)


def test_many_small_gradients_of_one_cell_survive_low_precision() -> None:
    maps = some_maps().detach().bfloat16().requires_grad_()
    read_cells(maps, torch.full((4096,), 7)).mul(1.0).sum().backward()
    assert maps.grad is not None
    assert maps.grad.dtype == torch.bfloat16
    # Summed in bfloat16, ones stop to count at 256.
    assert float(maps.grad[0, 0, 0, 7]) == 4096


@pytest.mark.parametrize("legacy", [False, True])
def test_points_equal_grid_sample(legacy: bool) -> None:
    maps, (points, frame) = some_maps(), some_points()
    read = read_points(maps, point_plan(points, frame, SIZE, 1, legacy))[:, :, 0]
    swapped = points.flip(-1) if legacy else points
    wanted = F.grid_sample(maps[frame], swapped[:, None], align_corners=False)[:, :, 0].transpose(1, 2)
    torch.testing.assert_close(read, wanted, atol=1e-5, rtol=1e-5)
    one, other = (torch.autograd.grad(values.square().sum(), maps, retain_graph=True)[0] for values in (read, wanted))
    torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_patches_at_points_and_cells_are_what_a_convolution_sees(kernel: int) -> None:
    maps, (points, frame) = some_maps(), some_points()
    weight = torch.randn(6, 5, kernel, kernel, generator=torch.Generator().manual_seed(4))
    flat = weight.permute(2, 3, 1, 0).flatten(0, 2)
    whole = F.conv2d(maps, weight, padding=kernel // 2)
    at_points = read_points(maps, point_plan(points, frame, SIZE, kernel)).flatten(2) @ flat
    wanted = read_points(whole, point_plan(points, frame, SIZE))[:, :, 0]
    torch.testing.assert_close(at_points, wanted, atol=1e-4, rtol=1e-4)
    cell = torch.arange(20) * 3 % (SIZE[0] * SIZE[1])
    at_cells = gather_patches(maps, cell, frame, kernel).flatten(1) @ flat
    torch.testing.assert_close(at_cells, gather_cells(whole, cell, frame), atol=1e-4, rtol=1e-4)


def test_how_much_of_a_sample_lies_on_the_map() -> None:
    frame = torch.zeros(4, dtype=torch.long)
    points = torch.tensor([[[0.0, 0.0]], [[1.0, 0.0]], [[1.0, -1.0]], [[1.5, 0.0]]])  # inside, edge, corner, outside
    for kernel in (1, 3):
        inside = point_plan(points, frame, SIZE, kernel).inside[:, 0]
        torch.testing.assert_close(inside, torch.tensor([1.0, 0.5, 0.25, 0.0]))
