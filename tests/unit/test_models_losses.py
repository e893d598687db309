from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import pytest
import torch
from models_batch import make_batch, model_config

from bevkd.config.schema import ModelConfig
from bevkd.data.batch import Batch, Boxes
from bevkd.models import losses
from bevkd.models.detector import build_detector
from bevkd.models.heads.center_settings import CenterLossSettings, CenterSettings
from bevkd.models.losses import DetectionLoss, axis_error, binary_heatmap_loss, depth_loss, gaussian_heatmap_loss
from bevkd.models.outputs import REGRESSION, BEVOutputs, CenterOutput, TaskOutput
from bevkd.models.targets import TargetAssigner
from bevkd.ranks import PartCounts, rank_mean


def config(targets: str = "gaussian", **loss: object) -> ModelConfig:
    base = model_config("lidar_pillar", "smoke")
    head = replace(base.head, tasks=CenterSettings().tasks, targets=targets)
    settings = CenterLossSettings(auto_scaling=False, heatmap_weight=1.0, loc_weight=0.25)
    return replace(base, head=head, loss=replace(settings, **loss))


def random_outputs(model: ModelConfig, frames: int, seed: int = 0) -> BEVOutputs:
    generator = torch.Generator().manual_seed(seed)
    grid = model.grid.build()

    def maps(channels: int) -> torch.Tensor:
        return (0.3 * torch.randn(frames, channels, grid.H, grid.W, generator=generator)).requires_grad_(True)

    heads = [
        TaskOutput(maps(len(task)), {name: maps(width) for name, width in REGRESSION}) for task in model.head.tasks
    ]
    low = torch.zeros(frames, 1, grid.H, grid.W)
    return BEVOutputs({"low": low, "high": low}, CenterOutput(heads, tuple(range(10))))


def perfect_outputs(model: ModelConfig, batch: Batch) -> BEVOutputs:
    """Maps that reproduce the targets exactly."""
    outputs = random_outputs(model, len(batch))
    targets = TargetAssigner(model.head, model.grid.build())(batch.boxes, len(batch))
    for task, target in zip(outputs.heads, targets, strict=True):
        task.heatmap = torch.where(target.heatmap == 1, 12.0, -12.0)
        flat = torch.zeros(10, task.heatmap[:, 0].numel())
        flat[:, target.positive] = target.regression.T
        maps = flat.view(10, len(batch), *task.heatmap.shape[2:]).movedim(0, 1)
        parts = maps.split([2, 1, 3, 2, 2], dim=1)
        task.regression = dict(zip(("reg", "height", "dim", "rot", "vel"), parts, strict=True))
        task.regression["iou"] = torch.ones_like(maps[:, :1])
    return outputs


def test_heatmap_losses_by_hand() -> None:
    logits = torch.tensor([0.0, math.log(3), -math.log(3)])  # p = 1/2, 3/4, 1/4
    target = torch.tensor([1.0, 0.0, 0.0])
    expected = -0.25 * 0.25 * math.log(0.5)
    expected += -0.75 * (0.75**2 * math.log(0.25 + 1e-4) + 0.25**2 * math.log(0.75 + 1e-4))
    assert float(binary_heatmap_loss(logits, target)) == pytest.approx(expected, rel=1e-5)
    soft = torch.tensor([1.0, 0.5, 0.0])
    expected = -(0.25 * math.log(0.5) + 0.75**2 * math.log(0.25) * 0.5**4 + 0.25**2 * math.log(0.75))
    assert float(gaussian_heatmap_loss(logits, soft)) == pytest.approx(expected, rel=1e-5)
    extreme = torch.tensor([1e4, -1e4], requires_grad=True)
    binary_heatmap_loss(extreme, torch.tensor([0.0, 1.0])).backward()
    assert torch.isfinite(extreme.grad).all()  # type: ignore[arg-type]


@pytest.mark.parametrize("targets", ["gaussian", "nine_nearest"])
def test_perfect_maps_cost_nothing(targets: str) -> None:
    model = config(targets, iou_weight=5.0)
    batch = make_batch(model)
    terms = DetectionLoss(model)(perfect_outputs(model, batch), batch)
    assert float(terms["loc"]) == pytest.approx(0, abs=1e-4)
    assert float(terms["iou_aware"]) == pytest.approx(0, abs=1e-2)
    assert float(terms["iou"]) == pytest.approx(0, abs=1e-2)
    assert float(terms["heatmap"]) < 1e-2


def test_regression_terms_by_hand() -> None:
    model = config("nine_nearest", iou_weight=5.0)
    batch = make_batch(model)
    batch.boxes = batch.boxes.select(batch.boxes.labels == 0)  # cars only: one task, 2 boxes, 18 positives
    outputs = perfect_outputs(model, batch)
    car = outputs.heads[0].regression
    car["height"] = car["height"] + 0.5
    car["vel"] = car["vel"] + torch.tensor([1.0, -2.0])[:, None, None]
    car["iou"] = car["iou"] - 0.25
    terms = DetectionLoss(model)(outputs, batch)
    n = 18
    assert float(terms["loc"]) == pytest.approx((0.5 + 0.2 * 3) * n / (n + 1e-4), rel=1e-4)
    assert float(terms["iou_aware"]) == pytest.approx(0.25 * n / (n + 1e-4), rel=1e-3)
    # L_loc is 1.1 there, so the 3D IoU term waits; with the velocity right it sees heights off by 0.5 of 1.7 m.
    assert float(terms["iou"]) == 0
    car["vel"] = car["vel"] - torch.tensor([1.0, -2.0])[:, None, None]
    overlap = (1.7 - 0.5) / (1.7 + 0.5)
    assert float(DetectionLoss(model)(outputs, batch)["iou"]) == pytest.approx(1 - overlap, rel=1e-4)


def code_of(*yaws: float, length: float = 1.0) -> torch.Tensor:
    """Codes (n, 10) of headings, with sine and cosine of some length."""
    yaw = torch.tensor(yaws, dtype=torch.float64)
    code = torch.zeros(len(yaws), 10, dtype=torch.float64)
    code[:, 6], code[:, 7] = length * yaw.sin(), length * yaw.cos()
    return code


def test_the_axis_does_not_know_the_front() -> None:
    truth = code_of(0.4, 0.4 + math.pi, 0.4 - math.pi)
    assert axis_error(code_of(0.4, 0.4, 0.4), truth) == pytest.approx(torch.zeros(3), abs=1e-12)
    across = axis_error(code_of(math.pi / 2), code_of(0.0))  # (0, -1) instead of (0, 1)
    assert across == pytest.approx(2.0)
    # Half a vector, the mean of nothing and the right answer, is no way out; nor is none.
    assert axis_error(code_of(0.0, length=0.5), code_of(0.0)) == pytest.approx(0.75)
    assert axis_error(code_of(0.0, length=0.0), code_of(0.0)) == pytest.approx(1.0)


def test_an_axis_is_learnt_where_the_front_cannot_be() -> None:
    """Of one and the same look half of the objects head one way, half the other."""

    def learnt(axis_weight: float) -> float:
        model = config("gaussian", axis_weight=axis_weight, velocity_weight=0.0)
        batch = make_batch(model)
        batch.boxes = batch.boxes.select(torch.tensor([0, 1]))
        batch.boxes.labels[:] = 0
        batch.boxes.boxes[:, 6] = torch.tensor([0.9, 0.9 - math.pi])
        outputs = perfect_outputs(model, batch)
        rot = torch.tensor([0.05, -0.05], requires_grad=True)  # (sine, cosine), far from the axis
        size = outputs.heads[0].regression["rot"].shape
        optimizer, loss = torch.optim.Adam([rot], lr=0.02), DetectionLoss(model)
        for _ in range(300):
            outputs.heads[0].regression["rot"] = rot[None, :, None, None].expand(size)
            optimizer.zero_grad()
            loss(outputs, batch)["total"].backward()
            optimizer.step()
        yaw = float(torch.atan2(rot[0], rot[1]).detach())
        return abs((yaw - 0.9 + math.pi / 2) % math.pi - math.pi / 2)

    assert learnt(1.0) < 0.02
    assert learnt(0.0) > 0.5


def test_a_wrong_front_is_left() -> None:
    """From the opposite of any heading the sum of both errors falls all the way to the truth."""
    yaw = torch.linspace(-math.pi, math.pi, 721, dtype=torch.float64)
    truth = code_of(*yaw.tolist())
    along = torch.linspace(-1, 1, 201, dtype=torch.float64)

    def errors(weight: float) -> torch.Tensor:
        return torch.stack([(r * truth - truth).abs().sum(1) + weight * axis_error(r * truth, truth) for r in along])

    assert (errors(0.44).diff(dim=0) < 0).all()
    assert not (errors(0.5).diff(dim=0) < 0).all()


def test_the_axis_is_part_of_the_box_errors() -> None:
    plain, own = config("gaussian"), config("gaussian", axis_weight=0.5)
    batch = make_batch(plain)
    outputs = random_outputs(plain, len(batch))
    before, after = (DetectionLoss(model)(outputs, batch) for model in (plain, own))
    assert float(after["loc"]) > float(before["loc"])
    assert float(after["heatmap"]) == float(before["heatmap"])
    perfect = DetectionLoss(own)(perfect_outputs(own, batch), batch)
    assert float(perfect["loc"]) == pytest.approx(0, abs=1e-4)


def test_the_iou_term_begins_below_a_loss_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    averaged: list[float] = []

    def mean(value: torch.Tensor) -> torch.Tensor:
        averaged.append(float(value))
        return rank_mean(value)

    monkeypatch.setattr(losses, "rank_mean", mean)
    below, norm = torch.tensor(1 - 2**-24), torch.tensor(18.0001)
    assert float(losses._is_near(below, norm)) == 1
    assert float(losses._is_near(torch.tensor(1.0), norm)) == 0
    assert averaged == [
        float(below),
        1.0,
    ]  # the loss itself: processes would round the multiplied-out form in another way
    # In parts the sums count: one of 1.5 over four boxes and one of 0 over twelve are near together.
    counts, parts = PartCounts(2), ((1.5, 4.0), (0.0, 12.0))
    for loc, norm in parts:
        with counts.counted():
            losses._is_near(torch.tensor(loc), rank_mean(norm))
    for loc, norm in parts:
        with counts.shared():
            mean = rank_mean(norm)
            assert float(mean) == 8.0
            assert float(losses._is_near(torch.tensor(loc * norm) / mean, mean)) == 1


@pytest.mark.parametrize("name", ["gaussian", "nine_nearest", "transfusion"])
def test_boxes_beyond_the_border_teach_finite_numbers(name: str) -> None:
    """Whose centre lies up to a bus length outside, as some with a corner inside do (`data.box_range`)."""
    model = model_config("lidar_transfusion", "smoke") if name == "transfusion" else config(name, iou_weight=5.0)
    batch = make_batch(model)
    reach = model.grid.reach
    batch.boxes.boxes[:, 0] = torch.linspace(reach - 2, reach + 6, len(batch.boxes))
    torch.manual_seed(0)
    detector = build_detector(model)
    terms = detector.loss(detector(batch), batch)
    terms["total"].backward()
    assert all(torch.isfinite(value) for value in terms.values())
    assert all(torch.isfinite(p.grad).all() for p in detector.parameters() if p.grad is not None)
    if name == "nine_nearest":  # all of them are learnt from, at cells along the border
        targets = TargetAssigner(model.head, model.grid.build())(batch.boxes, len(batch))
        owners = {int(box) for target in targets for box in target.box}
        assert any(float(batch.boxes.boxes[box, 0]) > reach for box in owners)


@pytest.mark.parametrize("model", ["lidar_pillar", "lidar_transfusion"])
def test_without_any_positive_the_number_of_processes_does_not_matter(
    model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The heat-map loss is then the background alone, as each process sees it: its gradients are averaged later."""
    settings = model_config(model, "smoke")
    torch.manual_seed(0)
    detector, batch = build_detector(settings).eval(), make_batch(settings)
    batch.boxes = batch.boxes.select(batch.boxes.labels > 99)
    outputs = detector(batch)
    alone = detector.loss(outputs, batch)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 8)
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda value: value.mul_(8))
    together = detector.loss(outputs, batch)
    assert float(alone["heatmap"]) > 0
    assert together.keys() == alone.keys()
    for name, value in alone.items():
        assert torch.equal(together[name], value), name


def test_weights_combine_as_documented() -> None:
    model = config("nine_nearest", heatmap_weight=3.0, loc_weight=0.5, iou_aware_weight=2.0, iou_weight=0.0)
    batch, outputs = make_batch(model), random_outputs(model, 2)
    terms = DetectionLoss(model)(outputs, batch)
    expected = 3 * terms["heatmap"] + 0.5 * terms["loc"] + 2 * terms["iou_aware"]
    torch.testing.assert_close(terms["total"].detach(), expected)
    assert not terms["loc"].requires_grad
    assert terms["total"].requires_grad


def test_auto_scaling_at_its_start_is_half_the_sum_plus_the_log_terms() -> None:
    model = config("nine_nearest", auto_scaling=True)
    batch, outputs = make_batch(model), random_outputs(model, 2)
    loss = DetectionLoss(model)
    terms = loss(outputs, batch)
    three = terms["heatmap"] + terms["loc"] + terms["iou_aware"]
    torch.testing.assert_close(terms["total"].detach(), 0.5 * three + 6 * 3 * math.log(2))
    terms["total"].backward()
    grad = loss.scales.grad  # type: ignore[union-attr]
    # d/ds of 0.5 / s^2 * L + 6 log(1 + s^2) at 1
    expected = -torch.stack([terms["heatmap"], terms["loc"], terms["iou_aware"]]) + 6
    torch.testing.assert_close(grad, expected)


@pytest.mark.parametrize("targets", ["gaussian", "nine_nearest"])
def test_candidates_that_do_not_count_change_nothing(targets: str) -> None:
    model = config(targets, iou_weight=5.0)
    loss, batch, found = DetectionLoss(model), make_batch(model, frames=3), []
    for compact in (True, False):
        outputs = random_outputs(model, 3)
        loss.assign = partial(TargetAssigner(model.head, model.grid.build()), compact=compact)
        for task in outputs.heads:  # nobody's cell, which all candidates read that do not count
            for part in task.regression.values():
                part.data[0, :, 0, 0] = 95.0
        terms = loss(outputs, batch)
        terms["total"].backward()
        grads = [part.grad for task in outputs.heads for part in (task.heatmap, *task.regression.values())]
        found.append((terms, grads))
    for name in found[0][0]:
        torch.testing.assert_close(found[0][0][name], found[1][0][name])
    torch.testing.assert_close(found[0][1], found[1][1])


@pytest.mark.parametrize("targets", ["gaussian", "nine_nearest"])
def test_without_a_box_only_the_negatives_count_and_the_graph_is_whole(targets: str) -> None:
    model = config(targets, iou_weight=5.0)
    batch, outputs = make_batch(model), random_outputs(model, 2)
    batch.boxes = Boxes.empty()
    terms = DetectionLoss(model)(outputs, batch)
    heat = gaussian_heatmap_loss if targets == "gaussian" else binary_heatmap_loss
    expected = sum(heat(task.heatmap, torch.zeros_like(task.heatmap)) for task in outputs.heads)
    torch.testing.assert_close(terms["heatmap"], expected.detach())  # type: ignore[union-attr]
    assert float(terms["loc"]) == float(terms["iou_aware"]) == float(terms["iou"]) == 0
    terms["total"].backward()
    for task in outputs.heads:
        assert task.heatmap.grad is not None
        assert all(part.grad is not None for part in task.regression.values())


def test_unlabelled_frames_do_not_count() -> None:
    model = config()
    batch = make_batch(model, frames=3)
    outputs = random_outputs(model, 3)
    mask = torch.tensor([True, False, True])
    batch = replace(batch, labelled=mask, boxes=batch.boxes.select(mask[batch.boxes.frame]))
    mixed = DetectionLoss(model)(outputs, batch)
    mixed["total"].backward()
    grads = [task.heatmap.grad for task in outputs.heads]
    assert all(g is not None and g[1].abs().sum() == 0 and g[0].abs().sum() > 0 for g in grads)
    # the same as a batch of the labelled frames alone
    tasks = [TaskOutput(t.heatmap[mask], {k: v[mask] for k, v in t.regression.items()}) for t in outputs.heads]
    alone = BEVOutputs({"low": outputs.low[mask]}, CenterOutput(tasks, outputs.class_order))
    chosen = replace(batch.boxes)
    chosen.frame = (mask.long().cumsum(0) - 1)[chosen.frame]
    pair = replace(batch, tokens=["a", "b"], labelled=mask[mask], boxes=chosen)
    torch.testing.assert_close(DetectionLoss(model)(alone, pair)["total"], mixed["total"])
    batch = replace(batch, labelled=torch.zeros(3, dtype=torch.bool), boxes=Boxes.empty())
    nothing = DetectionLoss(model)(outputs, batch)["total"]
    assert float(nothing.detach()) == 0
    nothing.backward()


def test_depth_loss_by_hand() -> None:
    logits = torch.zeros(1, 1, 4, 1, 3, requires_grad=True)  # uniform over four bins of 0.5 m from 2 m
    depth = torch.tensor([2.0, 3.99, 4.0]).view(1, 1, 1, 3)  # bin 0, bin 3, beyond the last
    per_pixel = -math.log(0.25) - 3 * math.log(0.75)
    loss = depth_loss(logits, depth, 2.0, 0.5)
    assert float(loss) == pytest.approx(per_pixel, rel=1e-6)
    loss.backward()
    grad = logits.grad[0, 0, :, 0]  # type: ignore[index]
    assert grad[0, 0] < 0
    assert grad[3, 1] < 0
    assert grad[:, 2].abs().sum() == 0
    assert float(depth_loss(logits, torch.zeros(1, 1, 1, 3), 2.0, 0.5)) == 0
    assert float(depth_loss(logits, torch.full((1, 1, 1, 3), 1.99), 2.0, 0.5)) == 0


def test_depth_loss_over_all_pixels_is_that_over_those_that_count() -> None:
    g = torch.Generator().manual_seed(0)
    depth = torch.where(torch.rand(2, 3, 4, 5, generator=g) < 0.4, 1 + 8 * torch.rand(2, 3, 4, 5, generator=g), 0.0)
    found = []
    for compact in (True, False, None):
        logits = torch.randn(2, 3, 12, 4, 5, generator=torch.Generator().manual_seed(1)).requires_grad_(True)
        loss = depth_loss(logits, depth, 2.0, 0.5, compact=compact)
        loss.backward()
        found.append((loss.detach(), logits.grad))
    for other in found[1:]:
        torch.testing.assert_close(other, found[0])
    assert float(found[0][0]) > 0


def test_depth_supervision_needs_depth() -> None:
    camera = build_detector(model_config("camera", "smoke", camera={"depth_weight": 3.0}))
    batch = make_batch(camera.config)
    with pytest.raises(ValueError, match="depth targets"):
        camera.loss(camera(batch), batch)
