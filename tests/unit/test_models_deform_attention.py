"""Deformable attention: a direct loop, a ramp, gradients, places beyond the map, mixed precision."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from bevkd.models.ops.deform_attention import cell_places, deform_attention


def by_loops(values: Tensor, places: Tensor, weights: Tensor) -> Tensor:
    """The definition, read by read."""
    (m, channels, height, width), (_, q, heads, points, _) = values.shape, places.shape
    share = channels // heads
    frames = []
    for frame in range(m):
        queries = []
        for query in range(q):
            gathered = []
            for head in range(heads):
                own = values[frame, head * share : (head + 1) * share]
                total = torch.zeros(share, dtype=values.dtype)
                for point in range(points):
                    x, y = places[frame, query, head, point]
                    left, top = math.floor(x.detach()), math.floor(y.detach())
                    for ix in (left, left + 1):
                        for iy in (top, top + 1):
                            if 0 <= ix < width and 0 <= iy < height:
                                near = (1 - (x - ix).abs()) * (1 - (y - iy).abs())
                                total = total + weights[frame, query, head, point] * near * own[:, iy, ix]
                gathered.append(total)
            queries.append(torch.cat(gathered))
        frames.append(torch.stack(queries))
    return torch.stack(frames)


def by_bags(values: Tensor, places: Tensor, weights: Tensor) -> Tensor:
    """Each query and head is a bag of cells, weighted by attention times nearness: no sample is ever held."""
    (m, channels, height, width), (heads, points) = values.shape, places.shape[2:4]
    cell = places.detach().floor().long()
    corner = cell[..., None, :] + torch.tensor([[0, 0], [1, 0], [0, 1], [1, 1]])  # (M, Q, heads, K, 4, 2)
    near = (1 - (places[..., None, :] - corner).abs()).prod(-1)
    ix, iy = corner.unbind(-1)
    inside = (ix >= 0) & (ix < width) & (iy >= 0) & (iy < height)
    row = (torch.arange(m)[:, None, None, None, None] * height + iy.clamp(0, height - 1)) * width
    index = (row + ix.clamp(0, width - 1)) * heads + torch.arange(heads)[:, None, None]
    table = values.permute(0, 2, 3, 1).reshape(-1, channels // heads)
    share = weights[..., None] * near * inside
    bags = embedding_bag(
        index.reshape(-1, 4 * points), table, mode="sum", per_sample_weights=share.reshape(-1, 4 * points)
    )
    return bags.reshape(m, -1, channels)


def made_up(
    m: int, q: int, heads: int, points: int, share: int, size: tuple[int, int], dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor, Tensor]:
    """Values, places inside the map and up to two cells beyond it, and weights; all want gradients."""
    g = torch.Generator().manual_seed(0)
    values = torch.randn(m, heads * share, *size, generator=g, dtype=dtype)
    reach = torch.tensor([size[1] + 3.0, size[0] + 3.0], dtype=dtype)
    places = torch.rand(m, q, heads, points, 2, generator=g, dtype=dtype) * reach - 2
    weights = torch.randn(m, q, heads, points, generator=g, dtype=dtype).softmax(-1)
    return tuple(tensor.requires_grad_(True) for tensor in (values, places, weights))  # type: ignore[return-value]


@pytest.mark.parametrize("reference", [by_loops, by_bags])
@pytest.mark.parametrize("size", [(4, 7), (6, 3), (1, 5)])
def test_equals_other_ways_with_gradients(reference: object, size: tuple[int, int]) -> None:
    parts = made_up(2, 5, 3, 4, 2, size)
    wanted = reference(*parts)  # type: ignore[operator]
    found = deform_attention(*parts)
    assert found.shape == (2, 5, 6)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    upstream = torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(1))
    ours, others = (torch.autograd.grad(out, parts, upstream) for out in (found, wanted))
    for one, other in zip(ours, others, strict=True):
        assert float(other.abs().sum()) > 0
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_layout_of_memory_is_of_no_account() -> None:
    values, places, weights = made_up(2, 6, 2, 3, 4, (5, 7))
    wanted = deform_attention(values, places, weights)
    moved = places.permute(0, 2, 3, 4, 1).contiguous().permute(0, 4, 1, 2, 3)
    found = deform_attention(values.to(memory_format=torch.channels_last), moved, weights)
    torch.testing.assert_close(found, wanted)


def test_gradcheck() -> None:
    parts = made_up(1, 3, 2, 2, 2, (3, 4), torch.float64)
    assert torch.autograd.gradcheck(deform_attention, parts)


def test_centres_of_cells_and_a_ramp() -> None:
    """Places in cells, so the centre of cell (iy, ix) is read at (ix, iy), and half a cell on between two cells."""
    height, width = 4, 7
    y, x = torch.meshgrid(torch.arange(4.0), torch.arange(7.0), indexing="ij")
    ramp = torch.stack([x, y, 3 * x - 2 * y, x + y])[None]
    cells = cell_places(height, width)
    assert cells[8].tolist() == [1.0, 1.0]
    places = cells[None, :, None, None].expand(1, -1, 2, 3, 2)
    weights = torch.tensor([0.5, 0.3, 0.2]).expand(1, 28, 2, 3)
    found = deform_attention(ramp, places, weights)
    torch.testing.assert_close(found, ramp.flatten(2).mT, atol=1e-5, rtol=1e-5)
    inner = (cells[:, 0] < width - 1) & (cells[:, 1] < height - 1)
    moved = deform_attention(ramp, places + torch.tensor([0.5, 0.25]), weights)
    step = torch.tensor([0.5, 0.25, 1.0, 0.75])
    torch.testing.assert_close(moved[:, inner], found[:, inner] + step, atol=1e-5, rtol=1e-5)


def test_zero_beyond_the_map() -> None:
    values = torch.ones(1, 1, 3, 5)
    at = [
        (-1.0, 1.0),
        (5.0, 1.0),
        (2.0, -1.0),
        (2.0, 3.0),
        (-0.5, 1.0),
        (4.25, 1.0),
        (2.0, -0.75),
        (4.5, 2.5),
        (1e4, -1e4),
    ]
    places = torch.tensor(at).view(1, -1, 1, 1, 2)
    found = deform_attention(values, places, torch.ones(1, len(at), 1, 1)).flatten()
    wanted = torch.tensor([0.0, 0.0, 0.0, 0.0, 0.5, 0.75, 0.25, 0.25, 0.0])
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)


def test_heads_read_their_own_channels() -> None:
    values = torch.arange(6.0)[None, :, None, None].expand(1, 6, 3, 3)
    weights = torch.zeros(1, 1, 3, 1)
    weights[0, 0, 1] = 2.0
    found = deform_attention(values, torch.ones(1, 1, 3, 1, 2), weights)
    torch.testing.assert_close(found.flatten(), torch.tensor([0.0, 0.0, 4.0, 6.0, 0.0, 0.0]), atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match="6 channels cannot be shared by 4 heads"):
        deform_attention(values, torch.ones(1, 1, 4, 1, 2), torch.ones(1, 1, 4, 1))


def test_float32_under_mixed_precision() -> None:
    """bfloat16 cannot tell 100 from 100.25."""
    values = torch.arange(128.0)[None, None, None].expand(1, 2, 1, 128).bfloat16()
    places = torch.tensor([100.25, 0.0]).expand(1, 1, 1, 1, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = deform_attention(values, places, torch.ones(1, 1, 1, 1))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.flatten(), torch.full((2,), 100.25), atol=1e-3, rtol=0)
