"""Batch normalisation over two gloo processes equals one process on the whole batch."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
import torch.multiprocessing as mp
from torch import Tensor, nn

from bevkd.train.syncbn import AllReduceBatchNorm, synchronise_batch_norm


def _net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 5, 3, padding=1), nn.BatchNorm2d(5, momentum=0.2), nn.ReLU(), nn.Conv2d(5, 4, 1), nn.BatchNorm2d(4)
    )


def _data() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(5, 3, 6, 7, generator=generator) * 2 + 3, torch.randn(5, 4, 6, 7, generator=generator)


def _loss(net: nn.Module, x: Tensor, weights: Tensor) -> Tensor:
    return (net(x) * weights).square().sum()


def _worker(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    net = synchronise_batch_norm(_net(), "cpu")
    x, weights = _data()
    part = slice(0, 2) if rank == 0 else slice(2, 5)  # unequal shards
    x = x[part].requires_grad_()
    _loss(net, x, weights[part]).backward()
    for parameter in net.parameters():
        torch.distributed.all_reduce(parameter.grad)
    torch.save(
        {"x": x.grad, "net": [p.grad for p in net.parameters()], "state": net.state_dict()}, f"{folder}/{rank}.pt"
    )
    torch.distributed.destroy_process_group()


def test_two_processes_equal_one(tmp_path: Path) -> None:
    mp.spawn(_worker, args=(str(tmp_path),), nprocs=2)  # type: ignore[no-untyped-call]
    parts = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    net = _net()
    x, weights = _data()
    x.requires_grad_()
    _loss(net, x, weights).backward()
    torch.testing.assert_close(torch.cat([p["x"] for p in parts]), x.grad, rtol=2e-4, atol=2e-4)
    for part in parts:
        for ours, reference in zip(part["net"], net.parameters(), strict=True):
            torch.testing.assert_close(ours, reference.grad, rtol=2e-4, atol=2e-4)
        for name, value in net.state_dict().items():
            torch.testing.assert_close(part["state"][name], value, rtol=1e-5, atol=1e-6, msg=name)


def test_replacement_keeps_parameters_names_and_the_single_process_result() -> None:
    net = _net()
    before, parameters = copy.deepcopy(net), list(net.parameters())
    replaced = synchronise_batch_norm(net, "cpu")
    assert [type(m) for m in replaced.modules()].count(AllReduceBatchNorm) == 2
    assert all(a is b for a, b in zip(replaced.parameters(), parameters, strict=True))
    assert list(replaced.state_dict()) == list(before.state_dict())
    x, _ = _data()
    torch.testing.assert_close(replaced(x), before(x), rtol=0, atol=0)
    torch.testing.assert_close(replaced.eval()(x), before.eval()(x), rtol=0, atol=0)
