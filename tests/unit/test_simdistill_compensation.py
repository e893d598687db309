"""Compensation modules: all kinds, and SimDistill's attention at its start, at its centres of cells, at any size."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from bevkd import registry
from bevkd.bench.profile import macs_dense2d
from bevkd.config import parse
from bevkd.errors import ConfigError
from bevkd.models.camera.compensation.attention import AttentionCompensation, TablePositions, rays
from bevkd.models.camera.compensation.attention_settings import AttentionSettings
from bevkd.models.camera.compensation.base import Compensation
from bevkd.models.ops.deform import DeformConv
from bevkd.registry import lookup, settings

KINDS = ("attention", "conv", "deform_conv")


def build(kind: str, channels: int, **options: object) -> Compensation:
    torch.manual_seed(0)
    module: Compensation = lookup("compensation", kind)(settings("compensation", kind)(**options), channels)
    return module


def attention(channels: int, **options: object) -> AttentionCompensation:
    module = build("attention", channels, **options)
    assert isinstance(module, AttentionCompensation)
    return module


def learnt(module: AttentionCompensation, scale: float = 0.3) -> AttentionCompensation:
    """The module with offsets and weights that depend on the map."""
    with torch.no_grad():
        for layer in (module.offset, module.weight):
            layer.weight.normal_(0, scale)
    return module


def moved(maps: Tensor, dx: int, dy: int) -> Tensor:
    """Each cell holds what lies so many cells to its right and below; zero beyond the map."""
    height, width = maps.shape[2:]
    out = torch.zeros_like(maps)
    for iy in range(height):
        for ix in range(width):
            if 0 <= iy + dy < height and 0 <= ix + dx < width:
                out[:, :, iy, ix] = maps[:, :, iy + dy, ix + dx]
    return out


# All kinds.


def test_the_kinds() -> None:
    assert set(KINDS) <= set(registry.names("compensation"))


@pytest.mark.parametrize("kind", registry.names("compensation"))
def test_maps_of_any_size_keep_their_shape_and_every_weight_learns(kind: str) -> None:
    module = build(kind, 16)
    for size in ((5, 9), (8, 3)):
        maps = torch.randn(2, 16, *size, requires_grad=True)
        out = module(maps)
        assert out.shape == maps.shape
        module.zero_grad()
        out.square().sum().backward()
        assert maps.grad is not None
        assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in module.parameters())
    # The tables of the attention only learn once its projections are not zero.
    still = {name for name, p in module.named_parameters() if not float(p.grad.abs().sum())}  # type: ignore[union-attr]
    assert still <= {"positions.columns", "positions.rows"}


@pytest.mark.parametrize("kind", registry.names("compensation"))
def test_a_state_comes_back(kind: str) -> None:
    module, maps = build(kind, 16), torch.randn(1, 16, 4, 6)
    torch.manual_seed(1)
    other = lookup("compensation", kind)(settings("compensation", kind)(), 16)
    assert not torch.equal(other(maps), module(maps))
    other.load_state_dict(module.state_dict())
    assert torch.equal(other(maps), module(maps))


@torch.no_grad()
def test_convolutions_by_their_parts() -> None:
    maps = torch.randn(2, 6, 5, 7)
    plain = build("conv", 6)
    torch.testing.assert_close(plain(maps), maps + torch.conv2d(maps, plain.conv.weight, plain.conv.bias, padding=1))
    deformed = build("deform_conv", 6, hidden=4)
    first, _, second = deformed.net
    assert isinstance(first, DeformConv)
    assert (first.weight.shape, second.weight.shape) == ((4, 6, 3, 3), (6, 4, 3, 3))
    torch.testing.assert_close(deformed(maps), maps + second(first(maps).relu()))
    assert build("deform_conv", 6).net[0].weight.shape == (6, 6, 3, 3)


# The attention.


@pytest.mark.parametrize(("heads", "points"), [(8, 10), (4, 4), (2, 3)])
def test_rays(heads: int, points: int) -> None:
    found = rays(heads, points)
    assert found.shape == (heads, points, 2)
    torch.testing.assert_close(found.abs().amax(-1), torch.arange(1.0, points + 1).expand(heads, -1))
    angle = torch.atan2(found[..., 1], found[..., 0])
    turn = torch.arange(heads)[:, None] * 2 * math.pi / heads
    torch.testing.assert_close((angle - turn).cos(), torch.ones(heads, points))


def test_eight_rays_end_at_cells() -> None:
    wanted = [[1, 0], [1, 1], [0, 1], [-1, 1], [-1, 0], [-1, -1], [0, -1], [1, -1]]
    torch.testing.assert_close(rays(8, 2)[:, 1], 2 * torch.tensor(wanted).float())


@torch.no_grad()
def test_at_the_start_each_head_takes_the_mean_of_its_ray() -> None:
    module, maps = attention(16, points=3, table=(5, 7)), torch.randn(2, 16, 5, 7)
    values = module.value(maps)
    ways = [(1, 0), (1, 1), (0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1)]
    means = []
    for head, (dx, dy) in enumerate(ways):
        own = values[:, 2 * head : 2 * head + 2]
        means.append(sum(moved(own, k * dx, k * dy) for k in (1, 2, 3)) / 3)
    wanted = maps + module.out(torch.cat(means, dim=1))  # type: ignore[arg-type]
    torch.testing.assert_close(module(maps), wanted, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_by_the_equations() -> None:
    """Cell by cell from its own weights, with offsets and attention that depend on the map."""
    from test_models_deform_attention import by_loops

    module, maps = learnt(attention(8, heads=4, points=3, table=(3, 5))), torch.randn(2, 8, 3, 5)
    places, weights, values = torch.zeros(2, 15, 4, 3, 2), torch.zeros(2, 15, 4, 3), torch.zeros_like(maps)
    matrix = {name: getattr(module, name).weight[:, :, 0, 0] for name in ("value", "offset", "weight", "out")}
    bias = {name: getattr(module, name).bias for name in matrix}
    for frame in range(2):
        for iy in range(3):
            for ix in range(5):
                place = torch.cat([module.positions.columns[:, ix], module.positions.rows[:, iy]])
                query = maps[frame, :, iy, ix] + place
                offset = (matrix["offset"] @ query + bias["offset"]).view(4, 3, 2)
                places[frame, iy * 5 + ix] = torch.tensor([ix, iy]) + offset
                weights[frame, iy * 5 + ix] = (matrix["weight"] @ query + bias["weight"]).view(4, 3).softmax(-1)
                values[frame, :, iy, ix] = matrix["value"] @ maps[frame, :, iy, ix] + bias["value"]
    found = module.sampling(maps)
    torch.testing.assert_close(found[0], places, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found[1], weights, atol=1e-6, rtol=1e-5)
    gathered = by_loops(values, places, weights) @ matrix["out"].T + bias["out"]
    torch.testing.assert_close(module(maps), maps + gathered.mT.unflatten(2, (3, 5)), atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_without_its_last_projection_it_is_the_identity() -> None:
    module, maps = learnt(attention(16)), torch.randn(1, 16, 6, 4)
    nn.init.zeros_(module.out.weight)
    assert torch.equal(module(maps), maps)


@pytest.mark.parametrize(("shifted", "step"), [(False, 0.0), (True, 0.5)])
@torch.no_grad()
def test_a_ramp_is_read_at_the_centres_of_cells(shifted: bool, step: float) -> None:
    """Without offsets the module reads each cell itself; the released code, half a cell before it."""
    module = attention(4, heads=2, points=2, half_cell_shift=shifted)
    y, x = torch.meshgrid(torch.arange(5.0), torch.arange(8.0), indexing="ij")
    ramp = torch.stack([x, y, x + y, x - y])[None]
    assert module.offset.bias is not None
    module.offset.bias.zero_()
    for layer in (module.value, module.out):
        layer.weight.copy_(torch.eye(4)[:, :, None, None])
    places, _ = module.sampling(ramp)
    torch.testing.assert_close(places[0, 9, 1, 0], torch.tensor([1.0 - step, 1.0 - step]))
    wanted = ramp - step * torch.tensor([1.0, 1.0, 2.0, 0.0])[:, None, None]
    inner = (..., slice(1, None), slice(1, None)) if shifted else (...,)
    torch.testing.assert_close((module(ramp) - ramp)[inner], wanted[inner], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_positions_come_from_a_table_of_any_size() -> None:
    torch.manual_seed(0)
    table = TablePositions(6, 3, 4)
    assert all(0 <= float(p.min()) <= float(p.max()) < 1 for p in table.parameters())
    own = table(3, 4)
    for iy in range(3):
        for ix in range(4):
            assert torch.equal(own[:, iy, ix], torch.cat([table.columns[:, ix], table.rows[:, iy]]))
    table.columns.copy_(torch.tensor([0.5, 1.5, 2.5, 3.5]).expand(3, -1) / 4)  # relative places of their centres
    table.rows.copy_(torch.tensor([0.5, 1.5, 2.5]).expand(3, -1) / 3)
    for size in ((6, 8), (2, 3), (12, 1)):
        columns, rows = table(*size).split(3)
        x, y = (torch.arange(size[1]) + 0.5) / size[1], (torch.arange(size[0]) + 0.5) / size[0]
        torch.testing.assert_close(columns, x.clamp(0.125, 0.875).expand(3, size[0], -1))
        torch.testing.assert_close(rows, y.clamp(1 / 6, 5 / 6)[:, None].expand(3, -1, size[1]))


def test_float32_under_mixed_precision() -> None:
    """Places far from the origin keep fractions of cells, whatever the precision of the maps."""
    module = learnt(attention(16, heads=4, points=4, table=(4, 200)), 0.05)
    maps = torch.randn(1, 16, 4, 200).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out, (places, weights) = module(maps), module.sampling(maps)
    assert {out.dtype, places.dtype, weights.dtype} == {torch.float32}
    torch.testing.assert_close(out, module(maps.float()), atol=0, rtol=0)
    torch.testing.assert_close(places, module.sampling(maps.float())[0], atol=0, rtol=0)


def test_gradients_reach_everything() -> None:
    module = learnt(attention(8, heads=2, points=2, table=(3, 4))).double()
    maps = torch.randn(1, 8, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(module, (maps,))
    module(maps).square().sum().backward()
    assert all(p.grad is not None and float(p.grad.abs().sum()) > 0 for p in module.parameters())


def test_offsets_learn_to_bring_a_feature_back() -> None:
    """One head learns to read what lies two cells to the right and half a cell below, of smooth maps."""
    module = attention(4, heads=1, points=4, table=(10, 10))
    optimizer = torch.optim.Adam(module.parameters(), lr=2e-2)
    losses = []
    for _ in range(100):
        maps = torch.nn.functional.interpolate(torch.randn(4, 4, 5, 5), (10, 10), mode="bilinear")
        wanted = (maps[..., :-1, 2:] + maps[..., 1:, 2:]) / 2
        loss = ((module(maps) - maps)[..., :-1, :-2] - wanted).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.1 * losses[0]
    places, weights = module.sampling(maps)
    read = (places * weights[..., None]).sum(3).unflatten(1, (10, 10))[:, 1:-2, 1:-3, 0].mean((0, 1, 2))
    cell = torch.tensor([3.5, 4.0])  # mean of these cells
    torch.testing.assert_close(read - cell, torch.tensor([2.0, 0.5]), atol=0.2, rtol=0)


def test_parameters_and_multiplications_of_the_published_modules() -> None:
    """Projections and tables of spec 3.2: C = 256 on 32 x 88 with 10 points, C = 80 on 180 x 180 with 20."""
    for channels, points, (rows, columns) in ((256, 10, (32, 88)), (80, 20, (180, 180))):
        module = attention(channels, points=points, table=(rows, columns))
        projections = 2 * channels * (channels + 1) + 3 * 8 * points * (channels + 1)
        assert sum(p.numel() for p in module.parameters()) == projections + channels // 2 * (rows + columns)
        maps = torch.zeros(1, channels, 4, 6)  # multiplications per cell do not depend on the size
        counted = macs_dense2d(module, maps)  # type: ignore[arg-type]
        assert counted == 24 * (2 * channels * channels + 3 * 8 * points * channels)


@pytest.mark.parametrize(("channels", "options"), [(12, {}), (9, {"heads": 3})])
def test_channels_that_do_not_fit(channels: int, options: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=f"{channels} channels must be even and a multiple of"):
        attention(channels, **options)


def test_settings() -> None:
    plain = AttentionSettings()
    assert (plain.heads, plain.points, plain.table, plain.half_cell_shift) == (8, 10, (32, 88), False)
    with pytest.raises(ConfigError, match="heads"):
        parse(AttentionSettings, {"heads": 0}, "here")
