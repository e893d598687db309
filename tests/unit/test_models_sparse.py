from __future__ import annotations

import pytest
import torch
from torch.nn.functional import conv3d

from bevkd.errors import ConfigError
from bevkd.geometry import BEVGrid
from bevkd.models.lidar.points import group_points, mean_per_cell
from bevkd.models.ops.sparse import SparseConv3d
from bevkd.models.ops.sparse_backend import backend, use_backend
from bevkd.models.ops.sparse_map import SparseMap

CASES = [
    ((3, 3, 3), (1, 1, 1), (1, 1, 1), True),
    ((3, 3, 3), (2, 2, 2), (1, 1, 1), False),
    ((3, 3, 3), (2, 2, 2), (0, 1, 1), False),
    ((3, 1, 1), (2, 1, 1), (0, 0, 0), False),
]


def backends() -> list[str]:
    try:
        import spconv.pytorch  # noqa: F401
    except ImportError:
        return ["torch"]
    return ["torch", "spconv"]


def random_map(channels: int, shape: tuple[int, int, int] = (7, 10, 8), voxels: int = 90) -> SparseMap:
    generator = torch.Generator().manual_seed(0)
    flat = torch.randperm(2 * shape[0] * shape[1] * shape[2], generator=generator)[:voxels]
    coordinates = torch.stack(torch.unravel_index(flat, (2, *shape)), dim=1)
    return SparseMap(torch.randn(voxels, channels, generator=generator), coordinates, shape, 2)


@pytest.mark.parametrize("backend", backends())
@pytest.mark.parametrize(("kernel", "stride", "padding", "submanifold"), CASES)
def test_equals_dense_convolution(backend: str, kernel, stride, padding, submanifold: bool) -> None:  # type: ignore[no-untyped-def]
    torch.manual_seed(1)
    layer = SparseConv3d(5, 6, kernel, stride, padding, submanifold=submanifold)
    x = random_map(5)
    x.features.requires_grad_(True)
    with use_backend(backend):
        y = layer(x)
    reference_in = x.features.detach().clone().requires_grad_(True)
    weight = layer.weight.detach().clone().requires_grad_(True)
    dense = conv3d(x.with_features(reference_in).dense(), weight.permute(0, 4, 1, 2, 3), stride=stride, padding=padding)
    assert y.shape == dense.shape[2:]
    b, z, v, u = y.coordinates.unbind(1)
    expected = dense[b, :, z, v, u]
    torch.testing.assert_close(y.features, expected, atol=1e-5, rtol=1e-5)
    upstream = torch.randn(y.features.shape, generator=torch.Generator().manual_seed(2))
    y.features.backward(upstream)
    expected.backward(upstream)
    torch.testing.assert_close(x.features.grad, reference_in.grad, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(layer.weight.grad, weight.grad, atol=1e-4, rtol=1e-5)
    if submanifold:
        assert torch.equal(y.coordinates, x.coordinates)
    else:  # every cell that the dense convolution of the occupancy reaches, and no other
        occupied = x.with_features(torch.ones(len(x.features), 1)).dense()
        reached = conv3d(occupied, torch.ones(1, 1, *kernel), stride=stride, padding=padding)[:, 0] > 0
        mine = torch.zeros_like(reached)
        mine[b, z, v, u] = True
        assert torch.equal(mine, reached)


@pytest.mark.parametrize("backend", backends())
def test_shared_key_reuses_pairs_and_gives_the_same(backend: str) -> None:
    torch.manual_seed(0)
    with use_backend(backend):
        shared, alone = SparseConv3d(4, 4, submanifold=True, key="a"), SparseConv3d(4, 4, submanifold=True)
        alone.load_state_dict(shared.state_dict())
        x = random_map(4)
        first = shared(x)
        assert list(x.pairs) == ["a"]
        pairs = x.pairs["a"]
        torch.testing.assert_close(shared(first).features, alone(alone(x)).features)
        assert first.pairs["a"] is pairs


def test_several_cpu_threads_choose_the_repeatable_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BEVKD_SPARSE", raising=False)
    features = torch.zeros(1, 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert backend(features) is None
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert (backend(features) is not None) == ("spconv" in backends())
    monkeypatch.setenv("BEVKD_SPARSE", "minkowski")
    with pytest.raises(ConfigError, match="minkowski"):
        backend(features)


def test_empty_map_passes_through() -> None:
    x = random_map(4, voxels=0)
    with use_backend("torch"):
        y = SparseConv3d(4, 6, stride=(2, 2, 2))(SparseConv3d(4, 4, submanifold=True)(x))
    assert y.dense().shape == (2, 6, 4, 5, 4)
    assert y.dense().abs().sum() == 0


GRID = BEVGrid(-4.0, -2.0, 1.0, 8, 4)


def test_grouping_by_hand() -> None:
    xyz = torch.tensor(
        [
            [0.5, 0.5, 0.5],  # frame 0: cell x 4, y 2, layer 1
            [0.7, 0.1, 0.9],  # the same
            [-3.9, -1.9, -0.5],  # frame 0: cell x 0, y 0, layer 0
            [-4.1, 0.0, 0.0],  # outside by less than a cell: must not fall into cell 0
            [0.5, 0.5, -1.2],  # below
            [0.5, 0.5, 1.0],  # z_max itself is outside
            [float("nan"), 0.0, 0.0],
            [0.5, 0.5, 0.5],  # frame 1
        ]
    )
    frame = torch.tensor([0, 0, 0, 0, 0, 0, 0, 1])
    groups = group_points(xyz, frame, GRID, (-1.0, 1.0), layers=2)
    assert groups.coordinates.tolist() == [[0, 0, 0, 0], [0, 1, 2, 4], [1, 1, 2, 4]]
    assert groups.counts.tolist() == [1, 2, 1]
    assert groups.index.tolist() == [2, 0, 1, 7]
    torch.testing.assert_close(mean_per_cell(xyz[groups.index], groups)[1], torch.tensor([0.6, 0.3, 0.7]))


def test_limits_keep_the_first_points_and_the_first_cells() -> None:
    xyz = torch.tensor([[2.5, 0.5, 0.0], [0.5, 0.5, 0.0], [2.6, 0.5, 0.0], [2.7, 0.5, 0.0], [-1.5, 0.5, 0.0]])
    frame = torch.zeros(5, dtype=torch.long)
    groups = group_points(xyz, frame, GRID, (-1.0, 1.0), max_points=2)
    assert groups.counts.tolist() == [1, 1, 2]
    assert groups.index.tolist() == [4, 1, 0, 2]
    groups = group_points(xyz, frame, GRID, (-1.0, 1.0), max_cells=2)
    assert groups.coordinates[:, 3].tolist() == [4, 6]  # the cells of the first two points; the last point's is dropped
    both = group_points(torch.cat([xyz, xyz]), torch.tensor([0] * 5 + [1] * 5), GRID, (-1.0, 1.0), max_cells=2)
    assert both.coordinates[:, [0, 3]].tolist() == [[0, 4], [0, 6], [1, 4], [1, 6]]
