"""Schedule, optimiser and precision."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.optim.lr_scheduler import OneCycleLR

from bevkd.config import TrainConfig
from bevkd.errors import ConfigError
from bevkd.train.optim import build_optimizer, cpu_has_bf16, one_cycle, peak_lr, resolve_precision, set_schedule


@pytest.mark.parametrize("steps", [7, 20, 33, 400])
@pytest.mark.parametrize("warmup", [0.3, 0.4])
def test_one_cycle_equals_torch(steps: int, warmup: float) -> None:
    config = TrainConfig(lr=3e-3, warmup_fraction=warmup)
    parameter = torch.nn.Parameter(torch.zeros(1))
    ours, theirs = build_optimizer([parameter], config), build_optimizer([parameter], config)
    schedule = OneCycleLR(
        theirs,
        max_lr=config.lr,
        total_steps=steps,
        pct_start=warmup,
        base_momentum=0.85,
        max_momentum=0.95,
        div_factor=config.div_factor,
        final_div_factor=config.final_div_factor,
    )
    for step in range(steps):
        set_schedule(ours, step, steps, config)
        for key in ("lr", "betas"):
            assert ours.param_groups[0][key] == pytest.approx(theirs.param_groups[0][key], rel=1e-9), (step, key)
        theirs.step()
        if step + 1 < steps:
            schedule.step()


def test_one_cycle_ends_of_the_published_recipe() -> None:
    config = TrainConfig(lr=1e-3)  # lr/10 -> lr -> lr * 1e-5; beta1 0.95 -> 0.85 -> 0.95
    assert one_cycle(0, 1000, config) == pytest.approx((1e-4, 0.95))
    assert one_cycle(399, 1000, config) == pytest.approx((1e-3, 0.85))
    assert one_cycle(999, 1000, config) == pytest.approx((1e-8, 0.95))
    still = TrainConfig(lr=1e-3, cycle_momentum=False)
    assert {one_cycle(k, 10, still)[1] for k in range(10)} == {0.95}


@pytest.mark.parametrize("steps", [1, 2, 3, 5])
def test_one_cycle_of_very_short_trainings_is_positive(steps: int) -> None:
    config = TrainConfig(warmup_fraction=0.2)  # 0.2 * 5 - 1 = 0: no division by zero
    assert all(0 < one_cycle(k, steps, config)[0] <= config.lr for k in range(steps))


def test_learning_rate_scales_with_the_batch() -> None:
    assert peak_lr(TrainConfig(lr=1e-3, batch_size=4, reference_batch=20)) == pytest.approx(2e-4)
    assert peak_lr(TrainConfig(lr=1e-3, batch_size=4)) == 1e-3


def test_nothing_to_train_is_an_error() -> None:
    frozen = torch.nn.Parameter(torch.zeros(1), requires_grad=False)
    with pytest.raises(ConfigError, match="no trainable"):
        build_optimizer([frozen], TrainConfig())


def test_precision(tmp_path: Path) -> None:
    info = tmp_path / "cpuinfo"
    info.write_text("processor: 0\nflags\t\t: fpu avx512f avx512_bf16\n")
    assert cpu_has_bf16(info)
    info.write_text("processor: 0\nflags\t\t: fpu avx512f\n")
    assert not cpu_has_bf16(info)
    assert not cpu_has_bf16(tmp_path / "none")
    assert resolve_precision("fp32", "cpu") == "32-true"
    assert resolve_precision("bf16", "cpu") == "bf16-mixed"
    assert resolve_precision("auto", "cpu") == ("bf16-mixed" if cpu_has_bf16() else "32-true")
    with pytest.raises(ConfigError, match="GPU"):
        resolve_precision("fp16", "cpu")
