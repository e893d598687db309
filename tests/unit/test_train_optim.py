"""Optimiser, parameter groups and precision."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bevkd.config import TrainConfig, parse
from bevkd.config.training import Timeline
from bevkd.errors import ConfigError
from bevkd.processor import cpu_has_bf16
from bevkd.registry import settings
from bevkd.train.optim import build_optimizer, resolve_precision, scaled_lr, set_schedule


class Camera(nn.Module):
    """A network whose parameters are called as those of a camera detector."""

    def __init__(self) -> None:
        super().__init__()
        backbone = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
        self.encoders = nn.ModuleDict({"camera": nn.ModuleDict({"backbone": backbone, "neck": nn.Linear(2, 2)})})
        self.head = nn.Linear(2, 1)
        self.relative_position_bias_table = nn.Parameter(torch.zeros(3, 2))


class Step(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.detector, self.engine = Camera(), nn.ModuleDict({"adapter": nn.Linear(2, 2)})


def config(**train: object) -> TrainConfig:
    return parse(TrainConfig, train, "test")


def by_name(module: nn.Module, train: TrainConfig) -> dict[str, tuple[float, float]]:
    """Factor of the learning rate and weight decay of every parameter."""
    optimizer = build_optimizer(module.named_parameters(), train)
    found = {id(p): (g["lr_factor"], g["weight_decay"]) for g in optimizer.param_groups for p in g["params"]}
    return {name: found[id(p)] for name, p in module.named_parameters()}


def test_without_groups_there_is_one_in_the_order_of_the_network() -> None:
    module = Step()
    optimizer = build_optimizer(module.named_parameters(), config(optimizer={"weight_decay": 0.02}))
    assert isinstance(optimizer, torch.optim.AdamW)
    (group,) = optimizer.param_groups
    assert all(a is b for a, b in zip(group["params"], module.parameters(), strict=True))
    assert (group["weight_decay"], group["betas"], group["fused"]) == (0.02, (0.9, 0.999), True)
    half = build_optimizer(module.named_parameters(), config(precision="fp16"))
    assert half.param_groups[0]["fused"] is False  # gradients are unscaled before clipping


def test_groups_have_their_own_rate_and_decay() -> None:
    groups = [
        {"match": "camera.backbone", "lr_factor": 0.1},
        {"match": "*relative_position_bias_table", "weight_decay": 0.0},
        {"match": "adapters", "lr_factor": 2.0},
        {"match": "camera", "weight_decay": 0.5},  # what the first group left
        {"match": "lidar", "lr_factor": 9.0, "optional": True},
    ]
    module = Step()
    found = by_name(module, config(optimizer={"groups": groups, "weight_decay": 0.01}))
    assert found["detector.encoders.camera.backbone.0.weight"] == (0.1, 0.01)
    assert found["detector.encoders.camera.backbone.1.bias"] == (0.1, 0.01)
    assert found["detector.encoders.camera.neck.weight"] == (1.0, 0.5)
    assert found["detector.relative_position_bias_table"] == (1.0, 0.0)
    assert found["detector.head.weight"] == (1.0, 0.01)
    assert found["engine.adapter.weight"] == (2.0, 0.01)
    train = config(lr=1e-2, optimizer={"groups": groups}, schedule={"kind": "one_cycle"})
    optimizer = build_optimizer(module.named_parameters(), train)
    lr = set_schedule(optimizer, 5, Timeline(20), train)
    rates = {group["lr_factor"]: group["lr"] for group in optimizer.param_groups}
    assert rates[1.0] == lr
    assert rates[0.1] == pytest.approx(0.1 * lr)
    assert rates[2.0] == pytest.approx(2 * lr)


def test_norms_and_biases_without_decay() -> None:
    found = by_name(Step(), config(optimizer={"no_decay": ["norm", "bias"], "weight_decay": 0.01}))
    decays = {name.removeprefix("detector."): decay for name, (_, decay) in found.items()}
    assert {name for name, decay in decays.items() if decay > 0} == {
        "encoders.camera.backbone.0.weight",
        "encoders.camera.neck.weight",
        "head.weight",
        "relative_position_bias_table",
        "engine.adapter.weight",
    }


def test_a_group_of_nothing_is_an_error() -> None:
    train = config(optimizer={"groups": [{"match": "camera.backbne"}]})
    with pytest.raises(ConfigError, match=r"nothing is called 'camera.backbne'.*'camera.backbone'"):
        build_optimizer(Step().named_parameters(), train)
    frozen = torch.nn.Parameter(torch.zeros(1), requires_grad=False)
    with pytest.raises(ConfigError, match="no trainable"):
        build_optimizer([("weight", frozen)], TrainConfig())


@pytest.mark.parametrize(("kind", "cls"), [("adam", "Adam"), ("adamw", "AdamW"), ("sgd", "SGD")])
def test_optimizers_by_name(kind: str, cls: str) -> None:
    train = config(optimizer={"kind": kind, "weight_decay": 0.3}, schedule={"kind": "one_cycle"}, lr=0.1)
    parameter = nn.Parameter(torch.ones(2))
    optimizer = build_optimizer([("weight", parameter)], train)
    assert type(optimizer).__name__ == cls
    assert optimizer.param_groups[0]["weight_decay"] == 0.3
    set_schedule(optimizer, 29, Timeline(100), train)  # the peak: momentum 0.1 below its value
    group = optimizer.param_groups[0]
    assert group["lr"] == pytest.approx(0.1)
    assert group.get("momentum", group.get("betas", (0,))[0]) == pytest.approx(0.8)
    parameter.grad = torch.ones(2)
    optimizer.step()
    assert (parameter < 1).all()


def test_settings_of_another_optimizer_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"optimizer.*betas"):
        config(optimizer={"kind": "sgd", "betas": [0.9, 0.99]})
    with pytest.raises(ConfigError, match=r"unknown optimizer 'adamm'.*'adam'"):
        config(optimizer={"kind": "adamm"})
    assert settings("optimizer", "sgd")().momentum == 0.9


def test_learning_rate_scales_with_the_batch() -> None:
    assert scaled_lr(TrainConfig(lr=1e-3, batch_size=4, reference_batch=20)) == pytest.approx(2e-4)
    assert scaled_lr(TrainConfig(lr=1e-3, batch_size=4)) == 1e-3


def test_precision() -> None:
    assert resolve_precision("fp32", "cpu") == "32-true"
    assert resolve_precision("bf16", "cpu") == "bf16-mixed"
    assert resolve_precision("auto", "cpu") == ("bf16-mixed" if cpu_has_bf16() else "32-true")
    with pytest.raises(ConfigError, match="GPU"):
        resolve_precision("fp16", "cpu")
