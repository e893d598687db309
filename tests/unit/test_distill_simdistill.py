"""SimDistill: its maps against slow loops and dense formulas, its mask, switches, and what it asks of networks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from distill_data import (
    GRID,
    HEAD,
    MAPS,
    TASKS,
    Frames,
    ToyTeacher,
    collate,
    leaves,
    make_batch,
    make_boxes,
    make_context,
    make_outputs,
    spec,
    with_targets,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from bevkd.config import MethodConfig
from bevkd.data.batch import Boxes
from bevkd.distill import SCORE_THRESHOLD, DistillContext, DistillEngine, build_cache, build_method, method_settings
from bevkd.distill.adapters import Adapter, MapConvolution
from bevkd.distill.cache_build import all_entries
from bevkd.distill.heat import drawn_heat
from bevkd.distill.methods.simdistill import SimDistill
from bevkd.errors import ConfigError, DataError
from bevkd.models.features import FeatureSpec
from bevkd.models.heads.center_settings import CenterSettings
from bevkd.models.outputs import BEVOutputs, CenterOutput, TaskOutput
from bevkd.models.targets import TargetAssigner
from bevkd.ranks import PartCounts

PARTS = ("imd", "cmd", "mmd_f", "mmd_p")
TERMS = {"imd": {"imd"}, "cmd": {"cmd"}, "mmd_f": {"mmd_f"}, "mmd_p": {"mmd_p_cls", "mmd_p_box"}}
STUDENT, TEACHER = spec("camera"), spec("lidar", "camera")


def build(student: FeatureSpec = STUDENT, teacher: FeatureSpec = TEACHER, **options: Any) -> SimDistill:
    torch.manual_seed(0)
    made = build_method(MethodConfig("simdistill", options), student, teacher)
    assert isinstance(made, SimDistill)
    return made


def only(part: str, **said: Any) -> SimDistill:
    options: dict[str, Any] = {name: {"enabled": False} for name in PARTS}
    return build(STUDENT, TEACHER, **options | {part: said})


def losses(made: SimDistill, student: BEVOutputs, teacher: BEVOutputs, context: DistillContext) -> dict[str, Tensor]:
    return made.losses(student, made.targets(teacher, context), context)


def mask_of(context: DistillContext, order: tuple[int, ...] = tuple(range(10))) -> Tensor:
    return drawn_heat(context.boxes, context.grid, context.batch_size, order, 0.1, 2).sum(1)


# --- maps


@pytest.mark.parametrize(("part", "feature"), [("imd", "camera"), ("mmd_f", "low")])
def test_maps_number_by_number(part: str, feature: str) -> None:
    student, teacher, context = make_outputs(2, 1, grad=True), make_outputs(2, 2), make_context([2, 0])
    own, taught = (outputs.feature(feature).flatten().tolist() for outputs in (student, teacher))
    wanted = sum((a - b) ** 2 for a, b in zip(own, taught, strict=True)) / len(own)
    found = losses(only(part), student, teacher, context)
    assert set(found) == {part}
    assert float(found[part].detach()) == pytest.approx(wanted, rel=1e-5)
    found[part].backward()
    maps = student.feature(feature)
    torch.testing.assert_close(maps.grad, 2 * (maps - teacher.feature(feature)).detach() / maps.numel())


def projected(made: SimDistill, maps: Tensor) -> Tensor:
    """Proj, layer by layer."""
    assert isinstance(made.project, MapConvolution)
    out = F.conv2d(maps, made.project.conv.weight, padding=1)
    return F.relu(F.batch_norm(out, None, None, made.project.norm.weight, made.project.norm.bias, True))


@pytest.mark.parametrize("clip", ["none", 1])
@pytest.mark.parametrize("norm", ["all", "mask"])
def test_cells_with_heat_give_the_dense_formula_and_its_gradient(norm: str, clip: Any) -> None:
    context = make_context([9, 0, 12])
    context.boxes.labels[:] = torch.arange(21) % 3
    context.boxes.boxes[:9, :2] = torch.randn(9, 2, generator=torch.Generator().manual_seed(1))  # on top of each other
    made, found = only("cmd", mask_norm=norm, mask_clip=clip), []
    mask = mask_of(context)[:, None]
    assert float(mask.max()) > 1.3
    if clip == 1:
        mask = mask.clamp(max=1)
    for dense in (False, True):
        student, teacher = make_outputs(3, 1, grad=True), make_outputs(3, 2)
        if dense:
            own, taught = projected(made, student.feature("simulated")), teacher.feature("lidar")
            squares = (mask * own - mask * taught).square()
            elements = squares.numel() if norm == "all" else int((mask > 0).sum()) * MAPS["lidar"]
            loss = squares.sum() / elements
        else:
            loss = losses(made, student, teacher, context)["cmd"]
        wanted = [student.feature("simulated"), *made.project.parameters()]
        found.append([loss.detach(), *torch.autograd.grad(loss, wanted)])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("at", ["map", "cells"])
def test_a_map_of_cameras_is_within_reach_of_the_layer(at: str) -> None:
    """The camera teacher of the control: its map has negative values, a LiDAR map has none."""
    cameras, student = without(TEACHER, "lidar"), make_outputs(2, 1)
    for teacher, kind, lowest in ((TEACHER, "lidar", 0.0), (cameras, "simulated", -0.1)):
        made = build(STUDENT, teacher, cmd={"teacher_map": kind, "project_at": at})
        if at == "map":
            values = made.project(student.feature("simulated"))
        else:
            frame, cells = torch.zeros(20, dtype=torch.int64), torch.arange(20)
            values = made.project.cells(student.feature("simulated"), cells, frame)
        assert (float(values.detach().min()) < lowest) == (kind == "simulated")


def test_a_layer_in_cells_asks_for_these_cells_on_any_device() -> None:
    assert only("cmd", project_at="cells").config.cmd.cells.counted
    assert not only("cmd").config.cmd.cells.counted


def test_without_a_mask_all_cells_count_the_same() -> None:
    student, teacher, context = make_outputs(2, 1), make_outputs(2, 2), make_context([3, 1])
    made = only("cmd", mask="none")
    wanted = F.mse_loss(projected(made, student.feature("simulated")), teacher.feature("lidar"))
    torch.testing.assert_close(losses(made, student, teacher, context)["cmd"], wanted)
    assert not made.wanted.boxes
    assert set(made.taps()) == {"cmd"}


def test_a_layer_in_cells_alone_has_their_statistics() -> None:
    student, teacher, context = make_outputs(2, 1), make_outputs(2, 2), make_context([5, 6])
    made, mask = only("cmd", project_at="cells"), mask_of(context)
    assert isinstance(made.project, Adapter)
    out = F.conv2d(student.feature("simulated"), made.project.conv.weight, padding=1).permute(0, 2, 3, 1)[mask > 0]
    own = F.relu((out - out.mean(0)) / (out.var(0, unbiased=False) + 1e-3).sqrt())
    taught = teacher.feature("lidar").permute(0, 2, 3, 1)[mask > 0]
    # The cells that are read are those of all peaks: here no box is without a class or off the map.
    wanted = (mask[mask > 0][:, None] * (own - taught)).square().sum() / teacher.feature("lidar").numel()
    torch.testing.assert_close(losses(made, student, teacher, context)["cmd"], wanted, rtol=1e-4, atol=0)


def test_on_an_accelerator_all_cells_are_read_and_nothing_changes() -> None:
    student, teacher, context = make_outputs(2, 1), make_outputs(2, 2), make_context([5, 0])
    made = only("cmd", mask_norm="mask")
    wanted = losses(made, student, teacher, context)["cmd"]
    found = made.targets(teacher, replace(context, compact=False))
    assert len(found["cmd_cell"].values) == 2 * GRID.H * GRID.W
    torch.testing.assert_close(made.losses(student, found, context)["cmd"], wanted)


# --- the mask


def one_box(label: int = 3) -> DistillContext:
    context = make_context([1])
    context.boxes.boxes[0] = torch.tensor([2.1, -1.3, 0, 4.5, 2.0, 1.5, 0.4, 0, 0])
    context.boxes.labels[0] = label
    return context


def test_the_mask_of_one_box_is_the_heat_map_of_its_class() -> None:
    context, student = one_box(), make_outputs(1, 1)
    mask = only("cmd")._mask(student, context)[0]
    targets = TargetAssigner(CenterSettings(targets="gaussian", tasks=HEAD), GRID)(context.boxes, 1)
    torch.testing.assert_close(mask, targets[2].heatmap[0, 0] + targets[2].heatmap[0, 1])
    assert all(not target.heatmap.any() for k, target in enumerate(targets) if k != 2)
    iy, ix = 10, 18  # (-1.3 + 9.6) / 0.8, (2.1 + 12.8) / 0.8
    assert float(mask[iy, ix]) == 1
    rows, columns = mask.nonzero(as_tuple=True)
    assert int((rows - iy).abs().max()) == int((columns - ix).abs().max()) == 2
    # Radius 2: the standard deviation is 5 / 6 of a cell.
    assert float(mask[iy, ix + 1]) == pytest.approx(np.exp(-0.5 / (25 / 36)), rel=1e-5)


def test_the_mask_adds_classes_up_and_takes_the_highest_of_one() -> None:
    student, made, context = make_outputs(1, 1), only("cmd"), make_context([2])
    context.boxes.boxes[:] = one_box().boxes.boxes[0]
    single = made._mask(student, one_box())
    for labels, factor in (([3, 3], 1), ([3, 4], 2), ([0, 8], 2), ([3, 11], 1)):  # no head knows label 11
        context.boxes.labels[:] = torch.tensor(labels)
        torch.testing.assert_close(made._mask(student, context), factor * single)
    context.boxes.labels[:] = torch.tensor([3, 4])
    assert float(only("cmd", mask_clip=1)._mask(student, context).max()) == 1


@given(st.integers(0, 2**16), st.integers(0, 12), st.sampled_from([(0.1, 2), (0.7, 0), (0.3, 5)]))
@settings(deadline=None, max_examples=25)
def test_cells_that_are_read_hold_the_mask(seed: int, boxes: int, form: tuple[float, int]) -> None:
    context, (overlap, radius) = make_context([boxes, 1], seed), form
    context.boxes.boxes[::3, :2] *= 1.6  # some are off the map
    made = only("cmd", min_overlap=overlap, min_radius=radius)
    mask, read = made._mask(make_outputs(2, 1), context), made.targets(make_outputs(2, 2), context)["cmd_cell"]
    seen = torch.zeros(2, GRID.H * GRID.W, dtype=torch.bool)
    seen[read.frame, read.values] = True
    assert not (mask.flatten(1)[~seen] > 0).any()


# --- the layout of the released code


def released(outputs: BEVOutputs) -> BEVOutputs:
    """The same in its layout, (B, C, X, Y)."""
    heads = [
        TaskOutput(t.heatmap.transpose(2, 3), {n: m.transpose(2, 3) for n, m in t.regression.items()})
        for t in outputs.heads
    ]
    features = {name: m.transpose(-1, -2) for name, m in outputs.features.items()}
    return BEVOutputs(features, CenterOutput(heads, outputs.class_order))


def test_exchanged_axes_lead_back_and_change_no_loss() -> None:
    student, teacher, context = make_outputs(2, 1), make_outputs(2, 2), make_context([6, 3])
    there = context.boxes.boxes[:, [1, 0, 2, 3, 4, 5, 6, 8, 7]]  # x and y of the boxes go with those of the maps
    grid = replace(GRID, x_min=GRID.y_min, y_min=GRID.x_min, W=GRID.H, H=GRID.W)
    flipped = DistillContext(grid, 2, replace(context.boxes, boxes=there), context.labelled)
    for one, other in ((student, released(released(student))), (teacher, released(released(teacher)))):
        assert torch.equal(one.heatmaps(), other.heatmaps())
        assert torch.equal(one.feature("camera"), other.feature("camera"))
    torch.testing.assert_close(mask_of(flipped), mask_of(context).transpose(1, 2))
    wanted = losses(build(), student, teacher, context)
    made = build()
    assert isinstance(made.project, MapConvolution)
    made.project.conv.weight.data = made.project.conv.weight.data.transpose(2, 3).contiguous()
    found = losses(made, released(student), released(teacher), flipped)
    for name, loss in wanted.items():
        torch.testing.assert_close(found[name], loss, rtol=1e-4, atol=0)


# --- the method


def test_published_weights_and_what_is_read() -> None:
    made = build()
    assert made.weights() == {"imd": 1, "cmd": 100, "mmd_f": 1, "mmd_p_cls": 1, "mmd_p_box": 1}
    assert made.wanted.features == {"camera", "lidar", "low", "heads"}
    assert made.student_features == {"camera", "simulated", "low", "heads"}
    assert sum(p.numel() for p in made.parameters()) == 9 * MAPS["simulated"] * MAPS["lidar"] + 2 * MAPS["lidar"]


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("how", ["enabled", "weight"])
def test_a_switch_takes_away_its_own_loss_and_no_other(part: str, how: str) -> None:
    student, teacher, context = make_outputs(2, 1), make_outputs(2, 2), make_context([6, 3])
    whole = losses(build(), student, teacher, context)
    made = build(**({part: {"enabled": False}} if how == "enabled" else {"weights": {part: 0}}))
    rest = losses(made, student, teacher, context)
    assert set(whole) - set(rest) == TERMS[part]
    assert set(made.weights()) == set(rest)
    for name, loss in rest.items():
        torch.testing.assert_close(loss, whole[name])
    assert bool(list(made.parameters())) == (part != "cmd")
    own = {"imd": "camera", "cmd": "lidar", "mmd_f": "low", "mmd_p": "heads"}[part]
    assert build().wanted.features - made.wanted.features == {own}


def test_equal_networks_have_no_loss() -> None:
    outputs, context = make_outputs(2, 2), make_context([3, 2])
    outputs.features["simulated"] = outputs.feature("lidar")
    made = build()
    made.project = nn.Identity()  # type: ignore[assignment]  # what the layer learns is none of it
    found = losses(made, outputs, outputs, context)
    assert {name: float(loss) for name, loss in found.items()} == dict.fromkeys(found, 0.0)


def test_a_live_teacher_gets_no_gradient() -> None:
    teacher, made = ToyTeacher(), build()
    engine = DistillEngine(made, GRID, teacher)
    student = make_outputs(2, 1, grad=True)
    engine(student, make_batch(["t1", "t2"], [0, 0], [True, False]))["total"].backward()
    assert all(p.grad is None and not p.requires_grad for p in teacher.parameters())
    for name in ("camera", "simulated", "low"):
        assert student.feature(name).grad.any()
    assert all(h.heatmap.grad is not None and h.heatmap.grad.any() for h in student.heads)
    assert all(p.grad is not None for p in made.parameters())
    # Nothing of the teacher can be taught by way of its outputs either.
    taught = make_outputs(2, 2, grad=True)
    context = make_context([3, 2])
    torch.stack(list(losses(made, make_outputs(2, 1, grad=True), taught, context).values())).sum().backward()
    assert all(t.grad is None for t in leaves(taught))


def test_a_cached_teacher_teaches_what_a_live_one_does(tmp_path: Path) -> None:
    frames = Frames(["t1", "t2", "t3"], np.array([True, False, True]), [1] * 3)
    batch, found = make_batch(frames.tokens, [0] * 3, frames.labelled.tolist()), []
    for cached in (False, True):
        made, teacher = build(mmd_p={"padded_boxes": True, "quality": "iou"}), ToyTeacher().eval()
        if cached:
            held = made.config.cached()
            cache = build_cache(
                held, teacher, frames, tmp_path / "c", all_entries(frames), teacher_digest="", collate=collate
            )
            engine = DistillEngine(made, GRID, cached=True)
            given = with_targets(batch, cache.reader(made.wanted, GRID, SCORE_THRESHOLD))
        else:
            engine, given = DistillEngine(made, GRID, teacher), batch
        found.append(engine(make_outputs(3, 1), given))
    for name, loss in found[0].items():
        torch.testing.assert_close(found[1][name], loss, rtol=2e-3, atol=1e-5)


def test_rows_that_differ_in_losses_share_columns() -> None:
    def columns(options: dict[str, Any]) -> set[str]:
        return set(method_settings(MethodConfig("simdistill", options)).cached().columns)

    same: list[dict[str, Any]] = [
        {},
        {"weights": {"cmd": 1}},
        {"weights": {"imd": 0}, "mmd_p": {"enabled": False}},
        {"cmd": {"mask_norm": "mask", "mask_clip": 1, "project_at": "cells"}},
        {"mmd_p": {"quality": "iou", "frames": 3, "double_sigmoid": True, "mixed_counts": True}},
    ]
    assert all(columns(options) <= columns({}) for options in same)
    other: list[dict[str, Any]] = [
        {"cmd": {"mask": "none"}},
        {"cmd": {"min_radius": 3}},
        {"cmd": {"teacher_map": "simulated"}},
        {"mmd_p": {"padded_boxes": True}},
    ]
    assert not any(columns(options) <= columns({}) for options in other)


@pytest.mark.parametrize("options", [{}, {"cmd": {"mask_norm": "mask"}, "mmd_p": {"frames": 3, "padded_boxes": True}}])
def test_parts_of_a_batch_teach_what_the_whole_does(options: dict[str, Any]) -> None:
    made = build(**options).eval()  # with running statistics: those of a part are its own
    assert isinstance(made.project, MapConvolution)
    made.project.norm.running_mean.normal_()  # type: ignore[union-attr]
    students, teachers = [make_outputs(2, k) for k in (1, 2)], [make_outputs(2, k) for k in (3, 4)]
    contexts = [make_context([5, 1], 1), make_context([0, 2], 2)]
    shifted = replace(contexts[1].boxes, frame=contexts[1].boxes.frame + 2)
    boxes = Boxes.cat([contexts[0].boxes, shifted])
    whole = DistillContext(GRID, 4, boxes, torch.ones(4, dtype=torch.bool))
    at_once = losses(made, joined(students), joined(teachers), whole)
    counts, found = PartCounts(2), []
    todo = list(zip(students, teachers, contexts, strict=True))
    for one in todo:
        with counts.counted():
            losses(made, *one)
    for one in todo:
        with counts.shared():
            found.append(losses(made, *one))
    for name, value in at_once.items():
        torch.testing.assert_close((found[0][name] + found[1][name]) / 2, value, rtol=1e-4, atol=0)


def joined(parts: list[BEVOutputs]) -> BEVOutputs:
    """Outputs of the frames of several parts."""
    heads = [
        TaskOutput(
            torch.cat([task.heatmap for task in tasks]),
            {name: torch.cat([task.regression[name] for task in tasks]) for name in tasks[0].regression},
        )
        for tasks in zip(*(part.heads for part in parts), strict=True)
    ]
    features = {name: torch.cat([part.feature(name) for part in parts]) for name in ("low", *MAPS)}
    return BEVOutputs(features, CenterOutput(heads, parts[0].class_order))


@pytest.mark.parametrize("options", [{}, {"cmd": {"project_at": "cells", "mask_norm": "mask"}}])
@pytest.mark.parametrize("boxes", ["none", "beyond", "unknown", "no velocity"])
def test_odd_boxes_leave_losses_finite(boxes: str, options: dict[str, Any]) -> None:
    context = make_context([0, 0] if boxes == "none" else [2, 3], labelled=[True, False])
    if boxes == "beyond":
        context.boxes.boxes[:, 0] += 500
    if boxes == "unknown":
        context.boxes.labels[:] = 13
    if boxes == "no velocity":
        context.boxes.boxes[:, 7:] = torch.nan
    student, made = make_outputs(2, 1, grad=True), build(**options)
    found = losses(made, student, make_outputs(2, 2), context)
    torch.stack(list(found.values())).sum().backward()
    assert all(torch.isfinite(loss) for loss in found.values())
    assert all(torch.isfinite(t.grad).all() for t in leaves(student) if t.grad is not None)
    assert all(torch.isfinite(p.grad).all() for p in made.parameters() if p.grad is not None)
    nothing = boxes != "no velocity"
    assert (float(found["cmd"].detach()) == 0) == (float(found["mmd_p_box"].detach()) == 0) == nothing


def test_half_precision_maps_are_compared_in_full() -> None:
    student, context = make_outputs(2, 1), make_context([3, 2])
    for name in ("camera", "simulated", "low"):
        student.features[name] = student.feature(name).bfloat16()
    assert all(loss.dtype == torch.float32 for loss in losses(build(), student, make_outputs(2, 2), context).values())


def test_classes_in_another_order_are_matched() -> None:
    student, teacher, context = make_outputs(2, 1), make_outputs(2, 2), make_context([6, 5])
    wanted = losses(build(), student, teacher, context)["cmd"]
    order = (9, 2, 4, 3, 1, 5, 6, 7, 8, 0)
    student.head_output, teacher.head_output = (CenterOutput(o.heads, order) for o in (student, teacher))
    found = losses(build(), student, teacher, context)
    torch.testing.assert_close(found["cmd"], wanted)
    assert sum(TASKS) == len(order)
    assert float(found["mmd_p_cls"]) > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": dict.fromkeys(PARTS, 0)}, "switched off"),
        ({"cmd": {"mask": "none", "project_at": "cells"}}, "needs a mask"),
        ({"cmd": {"mask_clip": 2}}, "mask_clip"),
        ({"mmd_p": {"quality": "guess"}}, "quality"),
        ({"mmd_p": {"frames": 0}}, "frames"),
        ({"sem": {}}, "sem"),
    ],
)
def test_bad_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(**options)


def without(one: FeatureSpec, name: str) -> FeatureSpec:
    return replace(one, features={n: f for n, f in one.features.items() if n != name})


def test_networks_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match="a student with a branch that simulates LiDAR"):
        build(without(STUDENT, "simulated"))
    cameras = without(TEACHER, "lidar")
    with pytest.raises(ConfigError, match=r"sees no LiDAR: set cmd: \{teacher_map: simulated\}"):
        build(teacher=cameras)
    assert build(teacher=cameras, cmd={"teacher_map": "simulated"}).wanted.features >= {"simulated"}
    with pytest.raises(ConfigError, match="no feature 'lidar'"):
        build(teacher=without(cameras, "simulated"))
    with pytest.raises(ConfigError, match="'low' cell by cell: student 6 channels at stride 1, teacher 64"):
        build(teacher=spec("lidar", "camera", low=64))
    with pytest.raises(ConfigError, match="same dense head"):
        build(teacher=replace(TEACHER, regression_maps=60))
    made, outputs = build(), make_outputs(2, 1)
    targets = made.targets(outputs, make_context([3, 2]))
    with pytest.raises(DataError, match="5 teacher targets for 4 boxes"):
        made.losses(outputs, targets, make_context([2, 2]))


def test_boxes_of_the_test_data_lie_on_the_map() -> None:
    boxes = make_boxes([30]).boxes
    assert (boxes[:, :2].abs() < torch.tensor([GRID.x_max, GRID.y_max])).all()
