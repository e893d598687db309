"""Optimiser, schedule and precision of the published recipe (UniDistill spec, section 7)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import torch
from torch import nn
from torch.optim import AdamW, Optimizer

from bevkd.config import TrainConfig
from bevkd.errors import ConfigError

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]
_PRECISION: dict[str, Precision] = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}
MOMENTUM_DIP = 0.1  # beta1 falls by this much while the learning rate peaks


def peak_lr(config: TrainConfig) -> float:
    """Peak learning rate, scaled linearly with the global batch when a reference batch is given."""
    return config.lr * (config.batch_size / config.reference_batch if config.reference_batch > 0 else 1.0)


def one_cycle(step: int, steps: int, config: TrainConfig) -> tuple[float, float]:
    """Learning rate and beta1 of step `step` (from 0) of `steps`: cosine up, then cosine down.

    A pure function of the step, so that a resumed training needs no schedule state. The momentum moves against the
    learning rate.
    """
    high = peak_lr(config)
    start = high / config.div_factor
    end = start / config.final_div_factor
    top, last = config.warmup_fraction * steps - 1, steps - 1
    if step <= top:
        low, rise = start, step / top if top > 0 else 1.0
    else:
        low, rise = end, 1 - (step - max(top, 0)) / (last - max(top, 0)) if last > max(top, 0) else 1.0
    height = (1 - math.cos(math.pi * rise)) / 2
    dip = MOMENTUM_DIP * height if config.cycle_momentum else 0.0
    return low + (high - low) * height, config.betas[0] - dip


def build_optimizer(parameters: Iterable[nn.Parameter], config: TrainConfig) -> AdamW:
    """AdamW with decoupled weight decay, also on normalisation layers.

    Raises:
        ConfigError: nothing is trainable.
    """
    trainable = [p for p in parameters if p.requires_grad]
    if not trainable:
        raise ConfigError("the model has no trainable parameter")
    # Under float16 the gradients are unscaled before clipping, which a fused step would do a second time.
    fused = config.precision != "fp16"
    return AdamW(trainable, lr=peak_lr(config), betas=config.betas, weight_decay=config.weight_decay, fused=fused)


def set_schedule(optimizer: Optimizer, step: int, steps: int, config: TrainConfig) -> float:
    """Set learning rate and beta1 of step `step` (from 0); returns the learning rate."""
    lr, beta1 = one_cycle(step, steps, config)
    for group in optimizer.param_groups:
        group["lr"], group["betas"] = lr, (beta1, group["betas"][1])
    return lr


def cpu_has_bf16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether the CPU multiplies bfloat16 in hardware (AVX512-BF16 or AMX); elsewhere autocast would slow down."""
    try:
        flags = next((line for line in cpuinfo.read_text().splitlines() if line.startswith("flags")), "").split()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def resolve_precision(name: str, device_type: str) -> Precision:
    """Fabric's name of a precision; "auto" is bfloat16 autocast where the hardware has it, else float32.

    Raises:
        ConfigError: float16 on a CPU.
    """
    if name == "auto":
        fast = torch.cuda.is_bf16_supported() if device_type == "cuda" else cpu_has_bf16()
        name = "bf16" if fast else "fp32"
    if name == "fp16" and device_type != "cuda":
        raise ConfigError("train.precision=fp16 needs a GPU; use bf16, fp32 or auto")
    return _PRECISION[name]
