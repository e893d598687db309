"""Size and cost of a detector: parameters, multiply-accumulates, latency."""

from __future__ import annotations

import logging
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from bevkd.bench.timing import machine, take_turns
from bevkd.config import DataConfig, ModelConfig, load_model, load_rows, load_run
from bevkd.data import Reads, reads_of
from bevkd.data.batch import Batch, Boxes
from bevkd.errors import ConfigError
from bevkd.models.detector import Detector, build_detector, weights_come_later
from bevkd.registry import lookup

logger = logging.getLogger(__name__)

POINTS_PER_SWEEP = {"paper": 34_000}  # of a nuScenes LiDAR; simulated ones at the smaller scales return fewer
SMALL_SWEEP = 3_000


def synthetic_frame(reads: Reads, reach: float, returns: int) -> Batch:
    """One frame of what a network reads, made up.

    Args:
        reads: by the network.
        reach: half side of the area that it looks at (m).
        returns: of one LiDAR sweep.
    """
    batch = Batch(
        tokens=["synthetic"],
        variants=[0],
        labelled=torch.ones(1, dtype=torch.bool),
        bev_aug=torch.eye(4)[None],
        boxes=Boxes.empty(),
    )
    for one in reads.inputs:
        lookup("input", one.name).example(one, batch, reach, returns)
    return batch


def macs_dense2d(detector: Detector, batch: Batch) -> int:
    """Multiply-accumulates of all dense 2D convolutions and of linear layers on maps: what papers print as FLOPs."""
    total = 0

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        if isinstance(module, nn.ConvTranspose2d):
            # Every input value meets every kernel entry of every output channel of its group.
            kernel = math.prod(module.kernel_size) * module.out_channels // module.groups
            total += inputs[0].numel() * kernel
        elif isinstance(module, nn.Conv2d):
            total += output.numel() * math.prod(module.kernel_size) * module.in_channels // module.groups

    handles = [
        m.register_forward_hook(count) for m in detector.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)
    ]
    try:
        with torch.no_grad():
            detector(batch)
    finally:
        for handle in handles:
            handle.remove()
    return total


def profile_model(model: str, scale: str = "paper", rounds: int = 3) -> dict[str, Any]:
    """What a model costs on its own, without the recipe, the data set and the settings of any run; see `measure`.

    Raises:
        ConfigError: unknown model or scale.
    """
    return {"model": model, "scale": scale} | measure(*load_model(model, scale), scale, rounds)


def profile_run(run: str, scale: str = "paper", rounds: int = 3) -> dict[str, Any]:
    """What the network of a run costs, as its first seed trains it; see `measure`.

    Raises:
        ConfigError: unknown run or scale.
    """
    rows = load_rows()
    config = load_run(run, scale, rows[run].seeds[0] if run in rows else 0)
    named = {"run": run, "model": config.row.model, "scale": scale}
    return named | measure(config.model, config.data, scale, rounds)


def measure(config: ModelConfig, data: DataConfig, scale: str, rounds: int = 3) -> dict[str, Any]:
    """Parameters, cost and latency of one frame in eval mode, on the GPU if there is one.

    Args:
        config: the network.
        data: what it reads.
        scale: says how many points a made-up sweep has.
        rounds: how often a forward pass is timed.

    Returns:
        For JSON: `params`, `macs_dense2d` (dense 2D convolutions, a multiply-add counted once: what papers print as
        FLOPs), `flops_total` (all matrix products and convolutions, a multiply-add counted twice), `latency_ms`
        (median of a forward pass, without decoding), the input, and the machine.

    Raises:
        ConfigError: no round at all.
    """
    if rounds < 1:
        raise ConfigError(f"a profile needs at least one round, not {rounds}")
    reads = reads_of(config, data).without_targets()
    returns = POINTS_PER_SWEEP.get(scale, SMALL_SWEEP)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(0)
    detector = build_detector(weights_come_later(config)).eval().to(device)  # costs do not depend on them
    batch = synthetic_frame(reads, config.grid.reach, returns).to(device)

    def forward() -> None:
        detector(batch)
        if device.type == "cuda":
            torch.cuda.synchronize()

    counter = FlopCounterMode(display=False)
    with torch.inference_mode():
        with counter:
            macs = macs_dense2d(detector, batch)  # one pass for both counts; it also warms up
        timings = take_turns({"forward": forward}, rounds, warmup=0)
    return {
        "params": sum(p.numel() for p in detector.parameters()),
        "params_trainable": sum(p.numel() for p in detector.parameters() if p.requires_grad),
        "macs_dense2d": macs,
        "flops_total": counter.get_total_flops(),
        "latency_ms": round(1000 * timings.median("forward"), 3),
        "input": {
            "points": 0 if batch.points is None else len(batch.points),
            "cameras": 0 if batch.cameras is None else batch.cameras.images.shape[1],
        },
        "machine": machine(),
    }
