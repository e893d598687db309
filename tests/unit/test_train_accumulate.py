"""A batch in parts: the loss and the gradient of the whole."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric
from models_batch import make_batch, model_config
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from bevkd.config import MethodConfig
from bevkd.config.schema import ModelConfig
from bevkd.data.batch import Batch, Boxes
from bevkd.distill import DistillEngine, build_method
from bevkd.models.detector import build_detector
from bevkd.ranks import PartCounts, one_over_ranks, rank_count, rank_mean
from bevkd.train.accumulate import forward_backward
from bevkd.train.setup import TrainStep


def part_of(batch: Batch, frames: list[int]) -> Batch:
    """Some frames of a LiDAR batch as a batch."""
    place = {old: new for new, old in enumerate(frames)}

    def renumbered(frame: Tensor) -> Tensor:
        return torch.tensor([place[i] for i in frame.tolist()], dtype=torch.int64)

    assert batch.points is not None
    assert batch.point_frame is not None
    keep = torch.isin(batch.point_frame, torch.tensor(frames))
    boxes = batch.boxes.select(torch.isin(batch.boxes.frame, torch.tensor(frames)))
    return Batch(
        tokens=[batch.tokens[i] for i in frames],
        variants=[batch.variants[i] for i in frames],
        labelled=batch.labelled[frames],
        bev_aug=batch.bev_aug[frames],
        boxes=Boxes(boxes.boxes, boxes.labels, renumbered(boxes.frame), boxes.scores),
        points=batch.points[keep],
        point_frame=renumbered(batch.point_frame[keep]),
    )


def step_of(model: ModelConfig, method: str | None) -> TrainStep:
    torch.manual_seed(0)
    student, engine = build_detector(model), None
    if method is not None:
        torch.manual_seed(1)
        teacher = build_detector(model)
        options = {"weights": {"feature": 1.0, "relation": 1.0, "response": 1.0}} if method == "unidistill" else {}
        chosen = build_method(MethodConfig(kind=method, options=options), student.spec, teacher.spec)
        engine = DistillEngine(chosen, student.grid, teacher=teacher)
    step = TrainStep(student, engine).train()
    for layer in step.modules():
        if isinstance(layer, _BatchNorm):  # they alone see a part at a time
            layer.eval()
    return step


def learnt(step: nn.Module, parts: list[Batch]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Losses and gradients."""
    step.zero_grad()
    fabric = Fabric(accelerator="cpu", devices=1)
    seeds: list[int] = []
    losses = forward_backward(fabric, fabric.setup_module(step), parts, seeds.append)
    assert seeds == ([0] if len(parts) == 1 else [*range(len(parts))] * 2)
    return losses, {name: p.grad.clone() for name, p in step.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("method", [None, "unidistill", "imitation", "pseudo_boxes", "dense"])
def test_parts_equal_the_whole(method: str | None) -> None:
    loss = {"auto_scaling": False, "iou_weight": 1.0}
    model = model_config("lidar_pillar", "smoke", loss=loss)
    whole = make_batch(model, frames=4)
    whole.boxes = whole.boxes.select(whole.boxes.frame != 2)  # so that the parts count differently
    parts = [part_of(whole, [0, 1]), part_of(whole, [2, 3])]
    step = step_of(model, method)
    expected, gradients = learnt(step, [whole])
    found, ours = learnt(step, parts)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-6, msg=name)
    assert ours.keys() == gradients.keys()
    for name, value in gradients.items():
        scale = float(value.abs().max())
        torch.testing.assert_close(ours[name], value, rtol=2e-3, atol=1e-4 * scale + 1e-8, msg=name)


def test_running_statistics_see_each_part_once() -> None:
    model = model_config("lidar_pillar", "smoke")
    whole = make_batch(model, frames=2)
    parts = [part_of(whole, [0]), part_of(whole, [1])]
    step = step_of(model, None).train()
    twin = copy.deepcopy(step)
    learnt(step, parts)
    for part in parts:
        twin(part)
    buffers = dict(twin.named_buffers())
    assert any("running_mean" in name for name in buffers)
    for name, value in step.named_buffers():
        assert torch.equal(value, buffers[name]), name


def test_normalisers_of_parts() -> None:
    counts, values = PartCounts(2), ((3.0, 0.0), (5.0, 0.0))
    for one in values:
        with counts.counted():
            assert [float(rank_mean(value)) for value in one] == list(one)  # as if it were alone
    for _ in values:
        with counts.shared():
            assert one_over_ranks() == 0.5
            assert float(rank_mean(99.0)) == 4.0
            assert float(rank_count(99.0)) == 0.5  # nothing is counted: as if one part had counted one thing
    assert (one_over_ranks(), float(rank_mean(7.0))) == (1.0, 7.0)


def test_a_part_that_fails_leaves_nothing_behind() -> None:
    counts = PartCounts(2)
    for _ in range(2):
        with counts.counted():
            rank_mean(2.0)
    with pytest.raises(ValueError, match="of the part"), counts.shared():
        raise ValueError("of the part")  # before its normaliser: that is not what went wrong
    assert (one_over_ranks(), float(rank_mean(7.0))) == (1.0, 7.0)
    with counts.counted():  # nor is it taken for one that is shared
        assert float(rank_mean(7.0)) == 7.0


def test_all_parts_ask_for_the_same_normalisers() -> None:
    counts = PartCounts(1)
    with counts.counted():
        rank_mean(2.0)
        rank_mean(3.0)
    with pytest.raises(RuntimeError, match="fewer normalisers"), counts.shared():
        rank_mean(2.0)
    with pytest.raises(RuntimeError, match="more normalisers"), counts.shared():
        for _ in range(3):
            rank_mean(2.0)
    with counts.shared():
        assert [float(rank_mean(9.0)), float(rank_mean(9.0))] == [2.0, 3.0]


def test_running_statistics_survive_a_part_that_fails() -> None:
    class Failing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(1)

        def forward(self, values: Tensor) -> dict[str, Tensor]:
            self.norm(values)
            raise RuntimeError("no loss")

    step = Failing().train()
    parts: Any = [torch.randn(4, 1), torch.randn(4, 1)]
    with pytest.raises(RuntimeError, match="no loss"):
        learnt(step, parts)
    assert (float(step.norm.running_mean), float(step.norm.running_var)) == (0.0, 1.0)  # type: ignore[arg-type]
    assert int(step.norm.num_batches_tracked) == 0  # type: ignore[arg-type]
    assert one_over_ranks() == 1.0


def test_a_step_without_normalisers() -> None:
    class Mean(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.tensor(2.0))

        def forward(self, values: Any) -> dict[str, Tensor]:
            return {"total": (self.weight * values).mean()}

    losses, gradients = learnt(Mean(), [torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0])])  # type: ignore[list-item]
    assert (float(losses["total"]), float(gradients["weight"])) == (5.0, 2.5)
