"""Schedules against closed forms and against torch's."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch.optim.lr_scheduler import OneCycleLR

from bevkd.config import TrainConfig, parse
from bevkd.config.training import Moment, Timeline
from bevkd.errors import ConfigError
from bevkd.registry import settings
from bevkd.train.optim import build_optimizer, set_schedule


def train(kind: str, lr: float = 1e-3, **options: Any) -> TrainConfig:
    plain = {"lr": lr, "schedule": {"kind": kind, **options}, "optimizer": {"betas": [0.95, 0.99]}}
    return parse(TrainConfig, plain, "test")


def lrs(config: TrainConfig, line: Timeline) -> list[float]:
    return [config.schedule.rates(step, line, config.lr).lr for step in range(line.steps)]


def test_every_schedule_is_positive_and_starts_anywhere() -> None:
    options: dict[str, dict[str, Any]] = {"step": {"at": [{"fraction": 0.5}]}}
    known = ["constant", "cosine", "cyclic", "one_cycle", "step"]
    for kind in known:
        schedule = train(kind, **options.get(kind, {})).schedule
        assert schedule == settings("schedule", kind)(**options.get(kind, {}))
        for steps in (1, 2, 3, 5, 40):
            assert all(schedule.rates(step, Timeline(steps), 1.0).lr > 0 for step in range(steps)), (kind, steps)


@pytest.mark.parametrize("steps", [7, 20, 33, 400])
@pytest.mark.parametrize("warmup", [0.3, 0.4])
def test_one_cycle_equals_torch(steps: int, warmup: float) -> None:
    config = train("one_cycle", lr=3e-3, warmup_fraction=warmup, div_factor=10.0)
    parameter = torch.nn.Parameter(torch.zeros(1))
    ours, theirs = (build_optimizer([("weight", parameter)], config) for _ in range(2))
    schedule = OneCycleLR(
        theirs,
        max_lr=config.lr,
        total_steps=steps,
        pct_start=warmup,
        base_momentum=0.85,
        max_momentum=0.95,
        div_factor=10.0,
        final_div_factor=config.schedule.final_div_factor,
    )
    for step in range(steps):
        set_schedule(ours, step, Timeline(steps), config)
        for key in ("lr", "betas"):
            assert ours.param_groups[0][key] == pytest.approx(theirs.param_groups[0][key], rel=1e-9), (step, key)
        theirs.step()
        if step + 1 < steps:
            schedule.step()


def test_one_cycle_ends_of_the_published_recipe() -> None:
    schedule = train("one_cycle", warmup_fraction=0.4, div_factor=10.0).schedule  # lr/10 -> lr -> lr * 1e-5
    line = Timeline(1000)
    assert schedule.rates(0, line, 1e-3) == pytest.approx((1e-4, 0.0))
    assert schedule.rates(399, line, 1e-3) == pytest.approx((1e-3, 0.1))
    assert schedule.rates(999, line, 1e-3) == pytest.approx((1e-8, 0.0))
    still = train("one_cycle", momentum_dip=0.0).schedule
    assert {still.rates(k, Timeline(10), 1e-3).dip for k in range(10)} == {0.0}


@pytest.mark.parametrize("steps", [1, 2, 3, 5])
def test_one_cycle_of_very_short_trainings_is_positive(steps: int) -> None:
    config = train("one_cycle", warmup_fraction=0.2)  # 0.2 * 5 - 1 = 0: no division by zero
    assert all(0 < lr <= config.lr for lr in lrs(config, Timeline(steps)))


def test_cosine_with_warmup() -> None:
    """CRKD spec, section 9: 500 steps of warm-up from a third, then cosine to a thousandth."""
    config = train("cosine", lr=2e-4, end=1e-3, warmup={"step": 500, "start": 1 / 3})
    line = Timeline(4000)
    found = lrs(config, line)
    for step, lr in enumerate(found):
        shape = 1e-3 + (1 - 1e-3) * (1 + math.cos(math.pi * step / 4000)) / 2
        rise = min(1.0, 1 / 3 + (2 / 3) * step / 500)
        assert lr == pytest.approx(2e-4 * shape * rise, rel=1e-9)
    assert found[0] == pytest.approx(2e-4 / 3)
    assert found[-1] == pytest.approx(2e-7, rel=1e-2)


def test_steps_of_the_published_recipe() -> None:
    """DistillBEV spec, section 9: a tenth after epochs 16 and 22 of 24, at any length of the schedule."""
    drops = [{"epoch": 16, "of": 24}, {"epoch": 22, "of": 24}]
    config = train("step", lr=2e-4, at=drops, warmup={"step": 10, "start": 1e-3})
    for line in (Timeline(24 * 7, per_epoch=7), Timeline(24 * 70, per_epoch=3)):
        found, each = lrs(config, line), line.steps // 24
        assert found[0] == pytest.approx(2e-7)
        assert found[5] == pytest.approx(2e-4 * (1e-3 + 0.999 / 2))
        assert found[10 : 16 * each] == pytest.approx([2e-4] * (16 * each - 10))
        assert found[16 * each : 22 * each] == pytest.approx([2e-5] * (6 * each))
        assert found[22 * each :] == pytest.approx([2e-6] * (2 * each))


def test_cyclic() -> None:
    """mmdetection3d's: x10 at 40 %, x1e-4 at the end, momentum 0.95 -> 0.85 -> 0.95."""
    config = train("cyclic", lr=1e-3)
    line = Timeline(1000)
    found = [config.schedule.rates(step, line, 1e-3) for step in range(1000)]
    assert found[0] == pytest.approx((1e-3, 0.0))
    assert found[200] == pytest.approx((5.5e-3, 0.05))  # half way up a cosine
    assert found[400] == pytest.approx((1e-2, 0.1))
    assert found[700] == pytest.approx(((1e-2 + 1e-7) / 2, 0.05))
    assert found[999].lr == pytest.approx(1e-7 + (1e-2 - 1e-7) * (1 + math.cos(math.pi * 599 / 600)) / 2)
    twice = train("cyclic", lr=1e-3, cycles=2).schedule
    assert [twice.rates(k, line, 1e-3) for k in (0, 200)] == [twice.rates(k, line, 1e-3) for k in (500, 700)]


def test_constant() -> None:
    assert lrs(train("constant"), Timeline(3)) == [1e-3] * 3
    assert lrs(train("constant", warmup={"fraction": 0.5, "start": 0.0}), Timeline(4)) == [0.0, 5e-4, 1e-3, 1e-3]


def test_moments() -> None:
    line = Timeline(100, per_epoch=8)
    assert Moment(step=7).at(line) == 7
    assert Moment(fraction=0.25).at(line) == 25
    assert Moment(epoch=2).at(line) == 16
    assert Moment(epoch=15, of=20).at(line) == 75
    for plain, message in (
        ({}, "give one of"),
        ({"step": 1, "epoch": 2}, "give one of"),
        ({"step": 1, "of": 2}, "belongs to `epoch`"),
        ({"epoch": 3, "of": 2}, "never reached"),
    ):
        with pytest.raises(ConfigError, match=message):
            parse(Moment, plain, "test")
