"""Two processes on halves of a batch: their averaged losses and gradients are those of the whole batch."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from distill_data import TASKS, leaves, make_context, make_outputs, spec
from torch import distributed, multiprocessing

from bevkd.config import MethodConfig
from bevkd.data.batch import Boxes
from bevkd.distill import DistillContext, build_method
from bevkd.models.outputs import BEVOutputs, CenterOutput, TaskOutput

# Layers with batch statistics differ between processes where nothing synchronises them.
NO_LAYER: dict[str, Any] = {"cmd": {"enabled": False}}
METHODS: list[tuple[str, dict[str, Any]]] = [
    ("unidistill", {}),
    ("unidistill", {"feature": {"points": "gaussian"}, "relation": {"points": "gaussian"}}),
    ("dense", {}),
    ("imitation", {"mask": "fg", "features": ["low", "high"]}),
    ("pseudo_boxes", {}),
    ("simdistill", NO_LAYER),
    ("simdistill", NO_LAYER | {"mmd_p": {"frames": 3, "padded_boxes": True, "quality": "iou"}}),
]
# The second rank has one frame without any box: it must still take part in every exchange.
PER_FRAME, LABELLED, HALF = [3, 4, 0, 1], [True, False, True, False], 2


def part_of(outputs: BEVOutputs, rows: slice) -> BEVOutputs:
    heads = [TaskOutput(h.heatmap[rows], {n: t[rows] for n, t in h.regression.items()}) for h in outputs.heads]
    maps = {name: value[rows] for name, value in outputs.features.items()}
    return BEVOutputs(maps, CenterOutput(heads, outputs.class_order))


def solve(rank: int | None) -> list[dict[str, torch.Tensor]]:
    """Losses and gradients (with respect to the maps of the whole batch) of every method."""
    rows = slice(0, 2 * HALF) if rank is None else slice(rank * HALF, (rank + 1) * HALF)
    context, found = make_context(PER_FRAME, labelled=LABELLED), []
    inside = (context.boxes.frame >= rows.start) & (context.boxes.frame < rows.stop)
    b = context.boxes.select(inside)
    boxes = Boxes(b.boxes, b.labels, b.frame - rows.start, b.scores)
    part = DistillContext(context.grid, rows.stop - rows.start, boxes, context.labelled[rows])
    for name, options in METHODS:
        torch.manual_seed(0)
        method = build_method(MethodConfig(name, options), spec("camera"), spec("lidar"))
        student, teacher = make_outputs(4, 1, grad=True), make_outputs(4, 2)
        losses = method.losses(part_of(student, rows), method.targets(part_of(teacher, rows), part), part)
        torch.stack([method.weights()[n] * loss for n, loss in losses.items()]).sum().backward()
        answer = {n: loss.detach() for n, loss in losses.items()}
        grads = [torch.zeros_like(t) if t.grad is None else t.grad for t in leaves(student)]
        answer["gradient"] = torch.cat([g.flatten() for g in grads])
        found.append(answer)
    return found


def work(rank: int, port: int, folder: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    torch.save(solve(rank), Path(folder) / f"{rank}.pt")
    distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path: Path) -> None:
    assert len(TASKS) == 6
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    multiprocessing.spawn(work, (port, str(tmp_path)), nprocs=2)
    ranks = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    for (name, _), one, first, second in zip(METHODS, solve(None), *ranks, strict=True):
        for key, value in one.items():
            mean = (first[key] + second[key]) / 2
            torch.testing.assert_close(mean, value, rtol=2e-3, atol=1e-6, msg=lambda m, k=f"{name} {key}": f"{k}: {m}")
