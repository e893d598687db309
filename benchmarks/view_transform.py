"""Lift-splat against the cumulative-sum formulation of LSS / BEVDet, on this machine's CPU.

Both start from the same depth distribution and pixel features with the same frustum cells, and both end in the dense
BEV map; the geometry (which cell each frustum point falls into) is timed apart. Neither side may reuse a sort: the
sort by cell belongs to both. Run: `python benchmarks/view_transform.py [--threads 1]`; writes
`benchmarks/results/view_transform.json`.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bevkd.data.batch import Cameras
from bevkd.geometry import BEVGrid
from bevkd.io import write_json
from bevkd.models.ops.lift_splat import frustum_cells, lift_splat, plan_splat

RESULTS = Path(__file__).parent / "results" / "view_transform.json"

# frames, image (height, width), stride, depth bins (first, step, count), channels, grid (reach, cell)
SCALES: dict[str, dict[str, Any]] = {
    "paper": {
        "frames": 1,
        "image": (256, 704),
        "stride": 16,
        "depth": (2.0, 0.5, 112),
        "channels": 256,
        "grid": (54.0, 0.6),
    },
    "sim": {"frames": 4, "image": (64, 176), "stride": 8, "depth": (2.0, 1.0, 32), "channels": 32, "grid": (25.6, 0.8)},
}


class _SegmentSums(torch.autograd.Function):
    """Sums of runs of equal cells by a cumulative sum over all points and differences at the ends of the runs."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, last: Tensor) -> Tensor:
        total = values.cumsum(0)[last]
        run = torch.cumsum(last.int(), 0)
        run = torch.where(last, run - 1, run)
        ctx.save_for_backward(run)
        return torch.cat([total[:1], total[1:] - total[:-1]])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (run,) = ctx.saved_tensors
        return grad[run], None


def cumulative_sum(context: Tensor, depth: Tensor, cells: Tensor, count: int) -> Tensor:
    """The published formulation: outer product, sort by cell, cumulative sum, difference, scatter."""
    lifted = (depth[:, :, None] * context[:, None, :]).flatten(0, 1)  # (N * D * h * w, C): the tensor to avoid
    flat = cells.flatten()
    kept = flat >= 0
    lifted, flat = lifted[kept], flat[kept]
    flat, order = torch.sort(flat)
    lifted = lifted[order]
    last = torch.ones(len(flat), dtype=torch.bool)
    last[:-1] = flat[1:] != flat[:-1]
    out = torch.zeros(count, context.shape[1])
    return out.index_copy(0, flat[last].long(), _SegmentSums.apply(lifted, last))


def fused(context: Tensor, depth: Tensor, cells: Tensor, count: int) -> Tensor:
    """Ours, with its plan made anew."""
    return lift_splat(context, depth, plan_splat(cells, count))


def camera_ring(frames: int, image: tuple[int, int], count: int = 6) -> Cameras:
    """Six level cameras with the opening angle of nuScenes' front cameras (70 degrees)."""
    height, width = image
    focal = width / 2 / math.tan(math.radians(35))
    intrinsics = torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
    poses = torch.eye(4).repeat(count, 1, 1)
    for n in range(count):
        cos, sin = math.cos(2 * math.pi * n / count), math.sin(2 * math.pi * n / count)
        poses[n, :3, :3] = torch.tensor([[sin, 0, cos], [-cos, 0, sin], [0, -1, 0]])
        poses[n, :3, 3] = torch.tensor([cos, sin, 1.5])
    return Cameras(
        images=torch.zeros(frames, count, 3, height, width),
        intrinsics=intrinsics.expand(frames, count, 3, 3),
        ego_from_camera=poses.expand(frames, count, 4, 4),
        image_aug=torch.eye(3).expand(frames, count, 3, 3),
    )


def clock(work: Callable[[], object], repeats: int) -> float:
    """Median seconds of process time, so that other work on the machine counts little; one warm-up."""
    work()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return statistics.median(times)


def measure(name: str, repeats: int) -> dict[str, Any]:
    scale = SCALES[name]
    grid = BEVGrid.centred(*scale["grid"])
    first, step, bins = scale["depth"]
    size = (scale["image"][0] // scale["stride"], scale["image"][1] // scale["stride"])
    cameras, bev_aug = camera_ring(scale["frames"], scale["image"]), torch.eye(4).expand(scale["frames"], 4, 4)
    depths = first + step * torch.arange(bins)
    count = scale["frames"] * grid.H * grid.W

    def geometry() -> Tensor:
        return frustum_cells(cameras, bev_aug, grid, (-3.0, 5.0), depths, size)

    cells = geometry()
    pixels = cells.numel() // bins
    generator = torch.Generator().manual_seed(0)
    context = torch.randn(pixels, scale["channels"], generator=generator).requires_grad_(True)
    depth = torch.softmax(torch.randn(pixels, bins, generator=generator), dim=1).requires_grad_(True)
    upstream = torch.randn(count, scale["channels"], generator=generator)

    def gradients(method: Callable[..., Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        out = method(context, depth, cells, count)
        return out.detach(), *torch.autograd.grad(out, (context, depth), upstream)

    def forward(method: Callable[..., Tensor]) -> Callable[[], object]:
        def work() -> None:
            with torch.no_grad():
                method(context, depth, cells, count)

        return work

    differences = [
        float((a - b).abs().max() / b.abs().max())
        for a, b in zip(gradients(fused), gradients(cumulative_sum), strict=True)
    ]
    row: dict[str, Any] = {
        "settings": {k: list(v) if isinstance(v, tuple) else v for k, v in scale.items()},
        "frustum_points": cells.numel(),
        "points_in_grid": int((cells >= 0).sum()),
        "relative_difference": dict(zip(("bev", "context_gradient", "depth_gradient"), differences, strict=True)),
        "geometry_ms": 1e3 * clock(geometry, repeats),
    }
    for label, method in (("cumulative_sum", cumulative_sum), ("fused", fused)):
        row[label] = {
            "forward_ms": 1e3 * clock(forward(method), repeats),
            "forward_backward_ms": 1e3 * clock(lambda method=method: gradients(method), repeats),
        }
    row["speed_up"] = {k: row["cumulative_sum"][k] / row["fused"][k] for k in ("forward_ms", "forward_backward_ms")}
    row["lifted_tensor_mib"] = cells.numel() * scale["channels"] * 4 / 2**20
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows = {name: measure(name, arguments.repeats) for name in SCALES}
    write_json(arguments.out, {"torch": torch.__version__, "threads": arguments.threads, "scales": rows})
    for name, row in rows.items():
        gain = row["speed_up"]
        print(f"{name}: forward x{gain['forward_ms']:.1f}, with backward x{gain['forward_backward_ms']:.1f}")


if __name__ == "__main__":
    main()
