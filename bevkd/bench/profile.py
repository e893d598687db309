"""Size and cost of a detector: parameters, multiply-accumulates, latency."""

from __future__ import annotations

import logging
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from bevkd.bench.timing import machine, take_turns
from bevkd.config import ModelConfig, load_model
from bevkd.data.batch import Batch, Boxes, Cameras
from bevkd.errors import ConfigError
from bevkd.models.detector import Detector, build_detector

logger = logging.getLogger(__name__)

CAMERAS = 6
POINTS_PER_SWEEP = {"paper": 34_000}  # of a nuScenes LiDAR; simulated ones at the smaller scales return fewer
SMALL_SWEEP = 3_000


def ring_of_cameras(size: tuple[int, int], count: int = CAMERAS) -> Cameras:
    """One frame of random images from level cameras around the vehicle, 1.6 m above the ground."""
    height, width = size
    focal = 0.8 * width
    k = torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
    poses = torch.eye(4).repeat(1, count, 1, 1)
    for n in range(count):
        yaw = 2 * math.pi * n / count
        forward = torch.tensor([math.cos(yaw), math.sin(yaw), 0.0])
        right = torch.tensor([math.sin(yaw), -math.cos(yaw), 0.0])
        poses[0, n, :3, :3] = torch.stack([right, torch.tensor([0.0, 0.0, -1.0]), forward], dim=1)
        poses[0, n, 2, 3] = 1.6
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(1, count, 3, height, width, generator=generator)
    return Cameras(images, k.repeat(1, count, 1, 1), poses, torch.eye(3).repeat(1, count, 1, 1))


def synthetic_frame(model: ModelConfig, points: int) -> Batch:
    """One frame with LiDAR returns as dense near the vehicle as a real sweep, and images where they are read."""
    generator = torch.Generator().manual_seed(0)
    radius = model.grid.reach * torch.rand(points, generator=generator) ** 2  # returns thin out with distance
    angle = 2 * math.pi * torch.rand(points, generator=generator)
    z = 2 * torch.rand(points, generator=generator).square() - 0.1
    rest = [255 * torch.rand(points, generator=generator), 0.5 * torch.rand(points, generator=generator)]
    cloud = torch.stack([radius * angle.cos(), radius * angle.sin(), z, *rest], dim=1)
    lidar = "lidar" in model.sensors
    return Batch(
        tokens=["synthetic"],
        variants=[0],
        labelled=torch.ones(1, dtype=torch.bool),
        bev_aug=torch.eye(4)[None],
        boxes=Boxes.empty(),
        points=cloud if lidar else None,
        point_frame=torch.zeros(points, dtype=torch.long) if lidar else None,
        cameras=ring_of_cameras(model.camera.image_size) if "camera" in model.sensors else None,
    )


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
    """Parameters, cost and latency of one frame in eval mode, on the GPU if there is one.

    Returns:
        For JSON: `params`, `macs_dense2d` (dense 2D convolutions, a multiply-add counted once: what papers print as
        FLOPs), `flops_total` (all matrix products and convolutions, a multiply-add counted twice), `latency_ms`
        (median of a forward pass, without decoding), the input, and the machine.

    Raises:
        ConfigError: unknown model or scale.
    """
    if rounds < 1:
        raise ConfigError(f"a profile needs at least one round, not {rounds}")
    config, data = load_model(model, scale)
    sweeps = 1 + data.lidar_sweeps if "lidar" in config.sensors else 0
    points = POINTS_PER_SWEEP.get(scale, SMALL_SWEEP) * sweeps
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(0)
    detector = build_detector(config).eval().to(device)
    batch = synthetic_frame(config, points).to(device)

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
        "model": model,
        "scale": scale,
        "params": sum(p.numel() for p in detector.parameters()),
        "params_trainable": sum(p.numel() for p in detector.parameters() if p.requires_grad),
        "macs_dense2d": macs,
        "flops_total": counter.get_total_flops(),
        "latency_ms": round(1000 * timings.median("forward"), 3),
        "input": {"points": points, "cameras": CAMERAS if "camera" in config.sensors else 0},
        "machine": machine(),
    }
