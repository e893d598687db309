"""A step of UniDistill reads nothing back from the device: seen on the CPU, by the operations that would."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from distill_data import GRID, Frames, ToyTeacher, collate, make_batch, make_outputs, spec, with_targets
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from bevkd.config import MethodConfig
from bevkd.config.schema import ModelConfig
from bevkd.distill import SCORE_THRESHOLD, DistillEngine, build_cache, build_method
from bevkd.distill.cache_build import all_entries
from bevkd.distill.masks import box_mask, cells_of, gaussian_mask
from bevkd.distill.teacher import teach
from bevkd.geometry.gaussian import draw_gaussians, gaussian_radius, reach_of
from bevkd.models.heads.center_settings import CenterLossSettings, CenterSettings
from bevkd.models.losses import DetectionLoss, depth_loss
from bevkd.models.targets import TargetAssigner

TOKENS = ["t1", "t2", "t3"]
OPTIONS: list[dict[str, Any]] = [
    {},
    {"adapter": {"enabled": True}},
    {"adapter": {"enabled": True, "kernel": 3}},
    {"adapter": {"enabled": True, "where": "map"}},
    {"feature": {"points": "complete"}, "relation": {"points": "complete"}},
    {"legacy_transpose": True},
]
# What a device answers only with a number: sizes that depend on values, and values for Python.
READS = {
    "_local_scalar_dense",
    "nonzero",
    "masked_select",
    "_unique2",
    "unique_consecutive",
    "bincount",
    "repeat_interleave",
    "equal",
}


class Watch(TorchDispatchMode):
    """Collects operations that read a value or a size back from the device."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name in READS or (name.startswith(("index", "_index")) and self._by_mask(args)):
            self.found.append(name)
        return func(*args, **(kwargs or {}))

    @staticmethod
    def _by_mask(args: Any) -> bool:
        indices = args[1] if len(args) > 1 and isinstance(args[1], (list, tuple)) else []
        return any(isinstance(i, Tensor) and i.dtype in (torch.bool, torch.uint8) for i in indices)


def batch_of(samples: list[tuple[str, int]]) -> Any:
    return make_batch([t for t, _ in samples], [v for _, v in samples], [True] * len(samples))


@pytest.mark.parametrize("options", OPTIONS, ids=range(len(OPTIONS)))
def test_a_step_with_a_cached_teacher(options: dict[str, Any], tmp_path: Path) -> None:
    method = build_method(MethodConfig("unidistill", options), spec("camera"), spec("lidar"))
    frames = Frames(TOKENS, np.ones(3, dtype=bool), [1] * 3)
    asked, wanted = all_entries(frames), method.config.cached()
    cache = build_cache(wanted, ToyTeacher(), frames, tmp_path / "c", asked, teacher_digest="", collate=collate)
    engine = DistillEngine(method, GRID, cached=True)
    reader = cache.reader(method.wanted, GRID, SCORE_THRESHOLD)
    batch = with_targets(batch_of([(t, 0) for t in TOKENS]), reader).to("cpu")
    student = make_outputs(3, 1, grad=True)
    with Watch() as watch:
        targets, context = engine.targets(batch)
        losses = method.losses(student, targets, context)
        torch.stack(list(losses.values())).sum().backward()
    assert watch.found == []


@pytest.mark.parametrize("options", OPTIONS, ids=range(len(OPTIONS)))
def test_a_step_with_a_live_teacher(options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    method = build_method(MethodConfig("unidistill", options), spec("camera"), spec("lidar"))
    student, batch = make_outputs(3, 1, grad=True), batch_of([(t, 0) for t in TOKENS]).to("cpu")
    teacher = ToyTeacher().eval()
    with Watch() as watch:
        found = method.losses(student, *teach(method.wanted, teacher, batch, GRID, compact=False))
        torch.stack(list(found.values())).sum().backward()
    assert watch.found == []
    wanted = method.losses(student, *teach(method.wanted, teacher, batch, GRID, compact=True))
    for name, loss in found.items():
        torch.testing.assert_close(loss, wanted[name])


@pytest.mark.parametrize("targets", ["gaussian", "nine_nearest"])
def test_the_detection_loss_of_the_student(targets: str) -> None:
    head = CenterSettings(targets=targets, regression_cells=9)
    loss = DetectionLoss(ModelConfig(head=head, loss=CenterLossSettings(iou_weight=1.0)))
    loss.grid, loss.assign = GRID, partial(TargetAssigner(head, GRID), compact=False)  # as on an accelerator
    student, batch = make_outputs(3, 1, grad=True), batch_of([(t, 0) for t in TOKENS]).to("cpu")
    for task in student.heads:
        task.regression["iou"] = torch.zeros_like(task.regression["height"])
    with Watch() as watch:
        loss(student, batch)["total"].backward()
    assert watch.found == []


def test_depth_supervision() -> None:
    logits = torch.randn(2, 3, 12, 4, 5).requires_grad_(True)
    depth = torch.where(torch.rand(2, 3, 4, 5) < 0.4, 1 + 8 * torch.rand(2, 3, 4, 5), 0.0)
    with Watch() as watch:
        depth_loss(logits, depth, 2.0, 0.5, compact=False).backward()
    assert watch.found == []


def test_what_is_watched_is_seen() -> None:
    boxes = batch_of([("t1", 0)]).boxes
    with Watch() as watch:
        cells_of(gaussian_mask(boxes, GRID, 1))
        boxes.select(boxes.labels > 3)
        box_mask(boxes, GRID, 1)
        torch.bincount(boxes.frame)
        torch.unique(boxes.labels)
        int(boxes.labels.max())
    assert set(watch.found) >= {"nonzero", "index", "bincount", "_unique2", "_local_scalar_dense"}


def test_no_radius_exceeds_the_bound_that_is_used_instead_of_it() -> None:
    longer, wider = torch.linspace(0.3, 20, 40), torch.linspace(0.3, 8, 30)
    length, width = (m.flatten() for m in torch.meshgrid(longer, wider, indexing="ij"))
    for overlap, cell in ((0.1, 0.8), (0.7, 0.6), (0.5, 0.32)):
        radius = gaussian_radius(length / cell, width / cell, overlap).floor().long()
        reach = reach_of(cell, overlap, 2)
        assert int(radius.max()) <= reach
        assert reach <= int(radius.max()) + 1
        centres = torch.tensor([[10, 12]]).expand(len(radius), 2)
        arguments = (centres, radius, torch.zeros_like(radius), 1, 24, 32)
        assert torch.equal(draw_gaussians(*arguments), draw_gaussians(*arguments, reach))
    huge = (torch.tensor([[16, 12]]), torch.tensor([9]), torch.tensor([0]), 1, 24, 32)
    cut = (huge[0], torch.tensor([5]), *huge[2:])
    assert torch.equal(draw_gaussians(*huge, 5), draw_gaussians(*cut))
