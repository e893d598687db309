"""Every registered distillation method, by parametrisation over the registry, and the switches of each."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch
from distill_data import GRID, TASKS, leaves, make_boxes, make_context, make_outputs, spec
from torch.nn import functional as F

from bevkd.config import MethodConfig
from bevkd.distill import DistillMethod, build_method, method_settings
from bevkd.distill.adapters import Adapter
from bevkd.distill.masks import box_mask, cells_of
from bevkd.distill.reading import read_taps
from bevkd.distill.sampling import gather_cells, sample_points
from bevkd.errors import ConfigError, DataError
from bevkd.models.outputs import CenterOutput
from bevkd.ranks import rank_count
from bevkd.registry import names

TRIO: list[dict[str, Any]] = [
    {},
    {"weights": {"relation": 0, "response": 0}},
    {"weights": {"feature": 0, "response": 0}, "adapter": {"enabled": True}},
    {"response": {"enabled": False}, "feature": {"points": "gaussian"}, "relation": {"points": "gaussian"}},
    {"feature": {"points": "complete"}, "relation": {"points": "complete", "level": "low"}},
    {"feature": {"level": "high"}, "relation": {"level": "high"}, "legacy_transpose": True},
    {"adapter": {"enabled": True, "kernel": 1, "norm": "none", "act": "none"}},
    {"adapter": {"enabled": True, "where": "map"}, "relation": {"points": "gaussian"}},
    {"adapter": {"enabled": True}, "feature": {"points": "complete"}, "relation": {"points": "gaussian"}},
]
SMALL: dict[str, Any] = {"reld": {"sizes": [8, 4]}}
CRKD: list[dict[str, Any]] = [
    {},
    SMALL | {"csrd": {"source": "gt_heatmap", "pool": "max", "norm": "l2"}, "msfd": {"mask": "gaussian"}},
    SMALL | {"csrd": {"source": "lidar_feature"}, "msfd": {"mask": "dense", "camera_feature": "ungated"}},
    {
        "csrd": {"pool": "mean_code"},
        "msfd": {"mask_geometry": "code", "half_square": True, "over_batch": True},
        "reld": {"sizes": [8, 4], "cosine": False, "over_batch": True, "adapters": False},
        "respd": {"per_class": False, "least": 0},
    },
    {"weights": {"csrd": 0, "reld": 0}, "msfd": {"mask": "box", "location": "fused"}},
]
BEV: list[dict[str, Any]] = [
    {},
    {"levels": ["high"], "false_positives": "union", "fp_channel_attention": True, "scaling": "code"},
    {"levels": ["B0", "B2"], "attention": "none", "scaling": "uniform", "sums": "published", "cell_point": "corner"},
    {"levels": ["low", "B1"], "regions": False, "attn_pool": "mean", "attn_proj": "conv3x3", "adapters": {"layers": 1}},
    {
        "fp_levels": ["B1", "high"],
        "false_positives": "rejected",
        "gamma": 0.8,
        "fg_min_one_cell": True,
        "weights": {"imitation": 0},
    },
]
SIM: list[dict[str, Any]] = [
    {},
    {"mmd_p": {"double_sigmoid": True, "mixed_counts": True, "padded_boxes": True, "sine_difference": True}},
    {"cmd": {"mask": "none"}, "mmd_p": {"quality": "teacher_score", "frames": 3}},
    {"cmd": {"mask_norm": "mask", "mask_clip": 1, "project_at": "cells"}, "mmd_p": {"quality": "iou"}},
    {"cmd": {"teacher_map": "simulated"}, "imd": {"enabled": False}, "weights": {"mmd_p": 0}},
]
DENSE_AND_TRIO = [{"kind": "dense"}, {"kind": "unidistill", "weight": 0.5, "options": {"response": {"enabled": False}}}]
# More rows for methods with switches; a method without an entry is tested with its defaults.
OPTIONS: dict[str, list[dict[str, Any]]] = {
    "unidistill": TRIO,
    "dense": [{}, {"per_task": False, "threshold": 0.6}],
    "monodistill": [{"channels": 8}, {"channels": 8, "levels": 2}],
    "imitation": [{}, {"mask": "fg", "features": ["low", "high"]}],
    "crkd": CRKD,
    "distillbev": BEV,
    "simdistill": SIM,
    "combine": [{"methods": DENSE_AND_TRIO}],
}
CASES = [(name, options) for name in names("method") for options in OPTIONS.get(name, [{}])]
IDS = [f"{name}-{i}" for i, (name, _) in enumerate(CASES)]


def make(name: str, options: dict[str, Any]) -> DistillMethod:
    return build_method(MethodConfig(name, options), spec("camera"), spec("lidar"))


@pytest.mark.parametrize(("name", "options"), CASES, ids=IDS)
def test_losses_are_finite_and_reach_the_student_only(name: str, options: dict[str, Any]) -> None:
    method, context = make(name, options), make_context([3, 0, 2], labelled=[True, True, False])
    student, teacher = make_outputs(3, 1, grad=True), make_outputs(3, 2, grad=True)
    targets = method.targets(teacher, context)
    for target in targets.values():
        assert not target.values.requires_grad
        assert len(target.values) == len(target.frame)
        assert (target.frame.diff() >= 0).all()
    losses = method.losses(student, targets, context)
    assert set(losses) == set(method.weights())
    for loss in losses.values():
        assert loss.dtype == torch.float32
        assert loss.shape == ()
        assert torch.isfinite(loss)
        assert loss > 0
    torch.stack([method.weights()[n] * loss for n, loss in losses.items()]).sum().backward()
    gradients = [t.grad for t in leaves(student) if t.grad is not None]
    assert any((g != 0).any() for g in gradients)
    assert all(torch.isfinite(g).all() for g in gradients)
    assert all(t.grad is None for t in leaves(teacher))
    for parameter in method.parameters():
        assert parameter.grad is not None


@pytest.mark.parametrize(("name", "options"), CASES, ids=IDS)
def test_a_step_downhill_lowers_the_loss(name: str, options: dict[str, Any]) -> None:
    method, context = make(name, options), make_context([3, 2], labelled=[True, False])
    student, teacher = make_outputs(2, 1, grad=True), make_outputs(2, 2)
    targets, weights = method.targets(teacher, context), method.weights()
    optimiser = torch.optim.Adam([*leaves(student), *method.parameters()], lr=0.02)
    curve = []
    for _ in range(25):
        losses = method.losses(student, targets, context)
        total = torch.stack([weights[n] * loss for n, loss in losses.items()]).sum()
        curve.append(float(total.detach()))
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
    assert curve[-1] < 0.9 * curve[0]


@pytest.mark.parametrize(("name", "options"), CASES, ids=IDS)
def test_no_box_at_all_keeps_a_valid_graph(name: str, options: dict[str, Any]) -> None:
    method, context = make(name, options), make_context([0, 0], labelled=[True, False])
    student, teacher = make_outputs(2, 1, grad=True), make_outputs(2, 2)
    losses = method.losses(student, method.targets(teacher, context), context)
    total = torch.stack(list(losses.values())).sum()
    total.backward()
    assert torch.isfinite(total)
    assert all(torch.isfinite(t.grad).all() for t in leaves(student) if t.grad is not None)


# Not through layers that start at random, and not against boxes.
@pytest.mark.parametrize("options", [o for o in TRIO if "adapter" not in o] + [None, {"methods": DENSE_AND_TRIO}])
def test_an_exact_copy_has_no_transfer_loss(options: dict[str, Any] | None) -> None:
    name = "dense" if options is None else "combine" if "methods" in options else "unidistill"
    options = options or {}
    method, context = make(name, options), make_context([3, 2])
    outputs = make_outputs(2, 2)
    losses = method.losses(outputs, method.targets(outputs, context), context)
    for loss_name, loss in losses.items():
        if loss_name != "response_cls":  # the teacher's halved logits differ by design
            assert loss < 1e-5, loss_name


@pytest.mark.parametrize(("name", "options"), CASES, ids=IDS)
def test_targets_read_only_what_is_declared(name: str, options: dict[str, Any]) -> None:
    method, context = make(name, options), make_context([3, 2], labelled=[True, False])
    teacher = make_outputs(2, 2)
    before = method.targets(teacher, context)
    noise = make_outputs(2, 77)
    wanted = method.wanted.features
    teacher.features |= {name: noise.features[name] for name in ("low", "high") if name not in wanted}
    if "heads" not in wanted:
        teacher.head_output = noise.head
    for key, target in method.targets(teacher, context).items():
        assert torch.equal(target.values, before[key].values), key


@pytest.mark.parametrize(("name", "options"), CASES, ids=IDS)
def test_the_cache_form_holds_every_target(name: str, options: dict[str, Any]) -> None:
    method, context = make(name, options), make_context([3, 2], labelled=[True, False])
    held = method.config.cached()
    teacher = make_outputs(2, 2)
    wanted, have = method.targets(teacher, context), read_taps(held.taps, teacher, context)
    assert held.boxes or not method.wanted.boxes
    for key, tap in method.taps().items():
        torch.testing.assert_close(wanted[key].values, have[tap.column].values)


def test_rows_that_differ_in_weights_or_losses_share_columns() -> None:
    def columns(options: dict[str, Any]) -> set[str]:
        return set(method_settings(MethodConfig("unidistill", options)).cached().columns)

    same = [{}, {"weights": {"feature": 3}}, {"feature": {"enabled": False}}, {"response": {"teacher_temperature": 1}}]
    assert all(columns(options) <= columns({}) for options in same)
    other = [{"legacy_transpose": True}, {"feature": {"points": "complete"}}, {"response": {"min_radius": 2}}]
    assert not any(columns(options) <= columns({}) for options in other)


def test_dense_equals_its_formula_cell_by_cell() -> None:
    student, teacher, context = make_outputs(2, 1), make_outputs(2, 2), make_context([3, 2])
    method = make("dense", {"per_task": False})
    losses = method.losses(student, method.targets(teacher, context), context)
    p_s, p_t = torch.sigmoid(student.heatmap_logits()), torch.sigmoid(teacher.heatmap_logits())
    expected = ((p_s - p_t) ** 2 * F.binary_cross_entropy(p_s, p_t, reduction="none")).sum() / 5
    torch.testing.assert_close(losses["dense"], expected, rtol=1e-4, atol=0)
    best = p_t.amax(1)
    weight = torch.where(best > 0.2, best, torch.zeros(()))
    difference = (student.regression_maps() - teacher.regression_maps()).abs().mean(1)
    expected = (weight * difference).sum() / weight.sum()
    torch.testing.assert_close(losses["regression"], expected, rtol=1e-4, atol=0)


def test_dense_compares_equal_classes_whatever_their_order() -> None:
    method, context, found = make("dense", {}), make_context([3, 1]), []
    for order in (tuple(range(10)), (9, 20, 4, 3, 17, 5, 6, 12, 8, 0)):
        student, teacher = make_outputs(2, 1), make_outputs(2, 2)
        by_label = sorted(order)
        for outputs in (student, teacher):
            maps = torch.cat([head.heatmap for head in outputs.heads], 1)
            slots = torch.split(maps[:, [by_label.index(label) for label in order]], TASKS, dim=1)
            outputs.head_output = CenterOutput(outputs.heads, order)
            for head, own in zip(outputs.heads, slots, strict=True):
                head.heatmap = own
        found.append(method.losses(student, method.targets(teacher, context), context)["dense"])
    torch.testing.assert_close(found[0], found[1])


def test_dense_weights_each_task_by_its_own_classes() -> None:
    student, teacher, context = make_outputs(1, 1), make_outputs(1, 2), make_context([1])
    method = make("dense", {})
    for head in teacher.heads:
        head.heatmap.fill_(-9.0)
    teacher.heads[3].heatmap[0, 0, 5, 7] = 2.0
    for head, taught in zip(student.heads, teacher.heads, strict=True):
        head.regression = {n: t.clone() for n, t in taught.regression.items()}
    student.heads[0].regression["reg"] += 5.0  # another task's maps do not count
    assert method.losses(student, method.targets(teacher, context), context)["regression"] == 0
    student.heads[3].regression["height"][0, 0, 5, 7] += 1.1
    loss = method.losses(student, method.targets(teacher, context), context)["regression"]
    assert float(loss) == pytest.approx(1.1 / 11, rel=1e-3)


def test_pseudo_boxes_see_unlabelled_frames_only() -> None:
    method, student = make("pseudo_boxes", {}), make_outputs(2, 1, grad=True)
    context = make_context([2, 2], labelled=[True, False])
    method.losses(student, {}, context)["pseudo_heatmap"].backward()
    gradient = torch.cat([h.heatmap.grad for h in student.heads if h.heatmap.grad is not None], 1)
    assert (gradient[0] == 0).all()
    assert (gradient[1] != 0).any()


def test_an_empty_count_is_one_thing_on_each_of_the_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    assert float(rank_count(0)) == 1.0
    assert float(rank_count(3)) == 3.0
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 4)
    # Nothing on any rank: the mean of what the ranks teach, not their sum. One box on four: not rounded up to four.
    for total, want in ((0.0, 1.0), (1.0, 0.25), (6.0, 1.5)):

        def all_reduce(value: torch.Tensor, total: float = total) -> None:
            value.fill_(total)

        monkeypatch.setattr(torch.distributed, "all_reduce", all_reduce)
        assert float(rank_count(torch.tensor(0.0))) == want


def test_combination_adds_up() -> None:
    options = {"methods": DENSE_AND_TRIO}
    both, context = make("combine", options), make_context([3, 2])
    student, teacher = make_outputs(2, 1), make_outputs(2, 2)
    found = both.losses(student, both.targets(teacher, context), context)
    for i, part in enumerate(DENSE_AND_TRIO):
        single = make(part["kind"], part.get("options", {}))
        alone = single.losses(student, single.targets(teacher, context), context)
        for name, loss in alone.items():
            torch.testing.assert_close(found[f"{i}.{name}"], loss)
            assert both.weights()[f"{i}.{name}"] == single.weights()[name] * part.get("weight", 1.0)
    assert both.wanted.features == {"low", "high", "heads"}


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("unidistil", {}, "did you mean 'unidistill'"),
        ("unidistill", {"featur": {}}, "featur"),
        ("unidistill", {"feature": {"points": "ten"}}, "points"),
        ("unidistill", {"weights": {"feature": 0, "relation": 0, "response": 0}}, "switched off"),
        ("imitation", {"features": []}, "at least 1 item"),
        ("combine", {}, "at least one method"),
        ("combine", {"methods": [{"kind": "dens"}]}, "did you mean 'dense'"),
    ],
)
def test_bad_options_are_named(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make(name, options)


def test_networks_that_do_not_fit_are_refused() -> None:
    import dataclasses

    wide = spec("lidar", low=64)
    with pytest.raises(ConfigError, match="enable the adapter"):
        build_method(MethodConfig("unidistill"), spec("camera"), wide)
    other = dataclasses.replace(spec("lidar"), regression_maps=60)
    for name in ("unidistill", "dense"):
        with pytest.raises(ConfigError, match="same head"):
            build_method(MethodConfig(name), spec("camera"), other)
    with pytest.raises(ConfigError, match=r"no path camera -> camera: set weights\.feature"):
        build_method(MethodConfig("unidistill"), spec("camera"), spec("camera"))


def test_targets_of_other_boxes_are_refused() -> None:
    method, outputs = make("unidistill", {}), make_outputs(2, 1)
    targets = method.targets(outputs, make_context([3, 2]))
    with pytest.raises(DataError, match="5 teacher targets for 4 boxes"):
        method.losses(outputs, targets, make_context([2, 2]))


def test_adapters_see_float32_and_widen_the_map() -> None:
    wide = spec("lidar", low=9, high=5)
    method = build_method(MethodConfig("unidistill", {"adapter": {"enabled": True}}), spec("camera"), wide)
    student, teacher, context = make_outputs(2, 1), make_outputs(2, 2), make_context([3, 2])
    g = torch.Generator().manual_seed(3)
    teacher.features["low"] = torch.randn(2, 9, GRID.H, GRID.W, generator=g)
    teacher.features["high"] = torch.randn(2, 5, GRID.H, GRID.W, generator=g)
    student.features["low"] = student.low.bfloat16()
    losses = method.losses(student, method.targets(teacher, context), context)
    assert all(loss.dtype == torch.float32 for loss in losses.values())


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("points", ["nine", "gaussian"])
def test_an_adapter_at_what_is_read_equals_the_whole_map(kernel: int, legacy: bool, points: str) -> None:
    context, found = make_context([3, 0, 4]), []
    context.boxes.boxes[0, :2] = torch.tensor([GRID.x_max - 0.3, GRID.y_min + 0.1])  # corners outside of the map
    for where in ("read", "map"):
        torch.manual_seed(0)
        # A rectifier comes after the sampling of points, and before it on a map.
        act = "relu" if points == "gaussian" else "none"
        adapter = {"enabled": True, "kernel": kernel, "norm": "none", "act": act, "where": where}
        parts = {"feature": {"points": points}, "relation": {"points": points}}
        method = make("unidistill", {"adapter": adapter, "legacy_transpose": legacy, **parts})
        student, teacher = make_outputs(3, 1, grad=True), make_outputs(3, 2)
        losses = method.losses(student, method.targets(teacher, context), context)
        torch.stack(list(losses.values())).sum().backward()
        gradients = [t.grad for t in (*leaves(student), *method.parameters()) if t.grad is not None]
        found.append((losses, gradients))
    for name, loss in found[0][0].items():
        torch.testing.assert_close(loss, found[1][0][name], rtol=1e-4, atol=1e-6)
    for one, other in zip(found[0][1], found[1][1], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("kernel", [1, 3])
def test_an_adapter_gives_nothing_outside_of_the_map(kernel: int) -> None:
    method = make("unidistill", {"adapter": {"enabled": True, "kernel": kernel}})
    adapter = cast(Adapter, method.adapters["feature"])  # type: ignore[index]
    torch.nn.init.constant_(adapter.norm.bias, 0.5)  # type: ignore[arg-type]
    context = make_context([2])
    context.boxes.boxes[0, 0] = 100.0  # far away
    context.boxes.boxes[1] = torch.tensor([GRID.x_max, 0.4, 0, 1, 1, 1, 0, 0, 0])  # its centre on the edge
    plan = context.plan(make_outputs(1).low, kernel)
    adapted = adapter.points(make_outputs(1, 1).low, plan)
    assert not adapted[0].any()
    assert plan.inside[1, 4] == 0.5
    assert float(adapted[1, 4].max()) > 0


def test_an_adapter_normalises_over_the_cells_that_are_read() -> None:
    method = make("unidistill", {"adapter": {"enabled": True, "act": "none"}, "weights": {"relation": 0}})
    adapter, outputs = method.adapters["feature"], make_outputs(2, 1)  # type: ignore[union-attr]
    cells = cells_of(make_outputs(2, 9).low[:, 0] > 1.0)
    adapted = adapter.cells(outputs.low, cells.cell, cells.frame)  # type: ignore[operator,union-attr]
    torch.testing.assert_close(adapted.mean(0), torch.zeros(adapted.shape[1]), atol=1e-5, rtol=0)
    assert float((adapted.detach().var(0) - 1).abs().max()) < 0.02


def test_box_mask_marks_cells_inside_and_never_loses_a_small_box() -> None:
    boxes = make_boxes([1, 1])
    boxes.boxes[0] = torch.tensor([0.0, 0.0, 0, 3.2, 1.6, 1, 0, 0, 0])
    boxes.boxes[1] = torch.tensor([3.0, 3.0, 0, 0.1, 0.1, 1, 0, 0, 0])
    mask = box_mask(boxes, GRID, 2)
    rows, columns = torch.nonzero(mask[0], as_tuple=True)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (11, 12, 14, 17)
    assert int(mask[0].sum()) == 8
    assert int(mask[1].sum()) == 1
    boxes.boxes[:, 6] = torch.pi / 2
    assert int(box_mask(boxes, GRID, 2)[0].sum(0).gt(0).sum()) == 2


def test_reading_cells_and_points_agree_at_cell_centres() -> None:
    outputs, cells = make_outputs(2, 1), cells_of(make_outputs(2, 9).low[:, 0] > 1.3)
    xy = GRID.cell_centres().view(-1, 2)[cells.cell]
    sampled = sample_points(outputs.low, GRID.normalised(xy)[:, None], cells.frame)[:, 0]
    torch.testing.assert_close(sampled, gather_cells(outputs.low, cells.cell, cells.frame), atol=1e-4, rtol=1e-4)


def test_head_layout_of_the_test_data_is_the_default_one() -> None:
    assert sum(TASKS) == 10
