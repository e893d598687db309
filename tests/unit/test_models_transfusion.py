"""TransFusion's head: where queries start, how they are matched, and what they say."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import permutations

import pytest
import torch
from models_batch import make_batch, model_config

from bevkd.config.schema import ModelConfig
from bevkd.data.batch import Boxes
from bevkd.errors import ConfigError
from bevkd.models.detector import Detector, build_detector
from bevkd.models.heads.query_loss import QueryLoss, class_cost, focal_sum, query_boxes, query_code
from bevkd.models.heads.transfusion import TransFusionHead, query_detections
from bevkd.models.ops.rotated import iou_3d
from bevkd.models.outputs import QueryOutput


@pytest.fixture(scope="module")
def model() -> ModelConfig:
    return model_config("lidar_transfusion", "smoke")


def queries_for(boxes: Boxes, head: TransFusionHead, proposals: int, seed: int = 0) -> QueryOutput:
    """Queries of which the first few, in another order, say what the annotations of their frame say."""
    g = torch.Generator().manual_seed(seed)
    frames, classes = int(boxes.frame.max()) + 1, len(head.class_order)
    code = torch.rand(frames, proposals, 10, generator=g) * 4
    logits = torch.full((frames, proposals, classes), -4.0)
    label = torch.zeros(frames, proposals, dtype=torch.long)
    for b in range(frames):
        member = (boxes.frame == b).nonzero().squeeze(1).flip(0)
        code[b, : len(member)] = query_code(boxes.boxes[member], head.grid)
        for q, m in enumerate(member.tolist()):
            slot = head.class_order.index(int(boxes.labels[m]))
            logits[b, q, slot], label[b, q] = 4.0, slot
    return QueryOutput(logits, code, label, torch.full((frames, proposals, classes), 0.5))


def test_codes_and_boxes_are_inverse(model: ModelConfig) -> None:
    boxes = make_batch(model, frames=2).boxes.boxes
    grid = model.grid.build()
    again = query_boxes(query_code(boxes, grid), grid)
    assert torch.allclose(again[:, :6], boxes[:, :6], atol=1e-4)
    assert torch.allclose(torch.cos(again[:, 6] - boxes[:, 6]), torch.ones(len(boxes)), atol=1e-6)
    assert torch.allclose(again[:, 7:], boxes[:, 7:])


def test_queries_start_at_the_strongest_peaks(model: ModelConfig) -> None:
    detector = build_detector(model)
    head = detector.head
    assert isinstance(head, TransFusionHead)
    classes = len(head.class_order)
    names = [name for task in model.head.tasks for name in task]
    car, cone = names.index("car"), names.index("traffic_cone")
    logits = torch.full((1, classes, head.grid.H, head.grid.W), -9.0)
    logits[0, car, 5, 7], logits[0, car, 5, 8] = 3.0, 2.0  # the second is no local maximum
    logits[0, cone, 9, 3], logits[0, cone, 9, 4] = 1.0, 0.5  # of cones every cell may start a query
    cell, label, score = head._peaks(logits)
    found = list(zip(label[0].tolist(), cell[0].tolist(), strict=True))
    width = head.grid.W
    assert found[:3] == [(car, 5 * width + 7), (cone, 9 * width + 3), (cone, 9 * width + 4)]
    assert (car, 5 * width + 8) not in found
    assert cell.shape[1] == model.head.query.proposals
    assert score[0, 0, car] == pytest.approx(torch.sigmoid(torch.tensor(3.0)).item())


def test_costs_by_hand() -> None:
    logits = torch.tensor([[0.0, 2.0]])
    p = 1 / (1 + math.exp(-2))
    want = -0.25 * (1 - p) ** 2 * math.log(p) + 0.75 * p**2 * math.log(1 - p)
    assert class_cost(logits, torch.tensor([1]))[0, 0].item() == pytest.approx(want, rel=1e-5)
    target = torch.tensor([[[0.0, 1.0]]])
    want = 0.75 * 0.25 * math.log(2) - 0.25 * (1 - p) ** 2 * math.log(p)
    assert focal_sum(logits[None], target, torch.ones(1, 1, 1)).item() == pytest.approx(want, rel=1e-5)


def test_matching_has_the_least_cost_of_all_assignments(model: ModelConfig) -> None:
    loss, batch = QueryLoss(model), make_batch(model, frames=1)
    head = build_detector(model).head
    assert isinstance(head, TransFusionHead)
    boxes = batch.boxes.select(torch.arange(min(4, len(batch.boxes))))
    slot = torch.tensor([head.class_order.index(int(k)) for k in boxes.labels])
    g = torch.Generator().manual_seed(3)
    code = query_code(boxes.boxes, head.grid)[torch.tensor([2, 0, 3, 1, 1, 0])[: len(boxes) + 2] % len(boxes)]
    code = code + 0.4 * torch.randn(code.shape, generator=g)
    logits = torch.randn(1, len(code), len(head.class_order), generator=g)
    output = QueryOutput(logits, code[None], torch.zeros(1, len(code), dtype=torch.long), logits.sigmoid())
    frame, query, chosen = loss.match(output, boxes, slot, 1)
    assert frame.tolist() == [0] * len(boxes)
    assert sorted(chosen.tolist()) == list(range(len(boxes)))
    assert len(set(query.tolist())) == len(boxes)
    by_class, by_place, by_overlap = model.head.query.cost
    found = query_boxes(code, head.grid)
    side = head.grid.W * head.grid.cell
    cost = by_class * class_cost(logits[0], slot)
    cost = cost + by_place * (found[:, None, :2] - boxes.boxes[None, :, :2]).abs().sum(-1) / side
    cost = cost - by_overlap * iou_3d(found[:, None], boxes.boxes[None])
    least = min(
        sum(cost[q, m].item() for m, q in enumerate(order)) for order in permutations(range(len(code)), len(boxes))
    )
    assert cost[query, chosen].sum().item() == pytest.approx(least, abs=1e-5)


def test_right_answers_cost_little_and_wrong_ones_more(model: ModelConfig) -> None:
    detector, batch = build_detector(model).eval(), make_batch(model, frames=2)
    head = detector.head
    assert isinstance(head, TransFusionHead)
    outputs = detector(batch)
    right = queries_for(batch.boxes, head, model.head.query.proposals)
    right = replace(right, tasks=outputs.heads, class_order=outputs.class_order)
    outputs.head_output = right
    good = detector.loss(outputs, batch)
    assert good["box"] == pytest.approx(0, abs=1e-3)
    assert good["class"] < 0.1
    wrong = replace(right, logits=-right.logits)
    outputs.head_output = wrong
    assert detector.loss(outputs, batch)["class"] > 10 * good["class"]


def test_unlabelled_frames_teach_nothing(model: ModelConfig) -> None:
    detector, batch = build_detector(model), make_batch(model, frames=2)
    batch.labelled[1] = False
    outputs = detector(batch)
    assert outputs.queries is not None
    outputs.queries.logits.retain_grad()
    outputs.heads[0].heatmap.retain_grad()
    detector.loss(outputs, batch)["total"].backward()
    for gradient in (outputs.queries.logits.grad, outputs.heads[0].heatmap.grad):
        assert gradient is not None
        assert gradient[0].abs().sum() > 0
        assert gradient[1].abs().sum() == 0


def test_detections_are_sorted_scored_and_cut(model: ModelConfig) -> None:
    head = build_detector(model).head
    assert isinstance(head, TransFusionHead)
    batch = make_batch(model, frames=2)
    queries = queries_for(batch.boxes, head, model.head.query.proposals)
    found = query_detections(queries, head.class_order, head.grid, model)
    assert (found.frame.diff() >= 0).all()
    for b in range(2):
        mine, truth = found.select(found.frame == b), batch.boxes.select(batch.boxes.frame == b)
        assert (mine.scores.diff() <= 0).all()
        best = mine.select(torch.arange(len(truth)))
        assert torch.allclose(best.scores, torch.sigmoid(torch.tensor(4.0)) * 0.5)
        assert sorted(best.labels.tolist()) == sorted(truth.labels.tolist())
    few = replace(model, decode=replace(model.decode, max_boxes=3))
    assert torch.bincount(query_detections(queries, head.class_order, head.grid, few).frame).tolist() == [3, 3]


def test_training_finds_the_objects_of_one_batch(model: ModelConfig) -> None:
    torch.manual_seed(0)
    detector, batch = build_detector(model).train(), make_batch(model, frames=2)
    optimiser = torch.optim.AdamW(detector.parameters(), lr=5e-3)
    curve = []
    for _ in range(60):
        losses = detector.loss(detector(batch), batch)
        optimiser.zero_grad()
        losses["total"].backward()
        optimiser.step()
        curve.append(losses["total"].item())
    assert sum(curve[-5:]) < 0.5 * sum(curve[:5])
    assert all(p.grad is not None for p in detector.parameters() if p.requires_grad)


def test_heads_are_exchanged_by_one_word() -> None:
    center = model_config("lidar_pillar", "smoke")
    other = build_detector(model_config("lidar_pillar", "smoke", head={"kind": "transfusion"}))
    assert isinstance(other, Detector)
    assert other.spec.regression_maps == 0
    assert build_detector(center).spec.regression_maps == 11
    with pytest.raises(ConfigError, match=r"unknown head 'transfusoin' \(did you mean 'transfusion'"):
        model_config("lidar_pillar", "smoke", head={"kind": "transfusoin"})


def test_bad_settings_are_refused(model: ModelConfig) -> None:
    query = replace(model.head.query, channels=10, attention_heads=4)
    with pytest.raises(ConfigError, match="cannot be shared"):
        build_detector(replace(model, head=replace(model.head, query=query)))
