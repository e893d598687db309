"""DistillBEV: regions, scales, attention and losses against values by hand, slow loops written here, and symmetries."""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from distill_data import GRID, STAGES, TASKS, Frames, ToyTeacher, collate, make_boxes, make_context, make_outputs, spec
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from bevkd.config import MethodConfig
from bevkd.data.batch import Boxes, Target
from bevkd.distill import DistillContext, DistillEngine, FeatureSpec, build_cache, build_method, method_settings
from bevkd.distill.adapters import MapAdapter
from bevkd.distill.cache_build import all_entries
from bevkd.distill.heat import drawn_heat, drawn_peaks
from bevkd.distill.map_attention import cell_attention, cell_distances, channel_attention, pooled
from bevkd.distill.methods.distillbev import DistillBEV
from bevkd.distill.methods.distillbev_settings import PRESETS, DistillBEVConfig
from bevkd.distill.regions import Regions, box_owners, only_they_fire, resized_mask, split_regions
from bevkd.errors import ConfigError, DataError
from bevkd.geometry import BEVGrid
from bevkd.models.features import FeatureInfo
from bevkd.models.outputs import BEVOutputs
from bevkd.ranks import PartCounts

ROOT = Path(__file__).resolve().parents[2]
SQUARE = BEVGrid(-8.0, -8.0, 1.0, 16, 16)
LEVELS = ("B1", "B2", "high")


def build(options: dict[str, Any] | None = None, student: FeatureSpec | None = None, **said: Any) -> DistillBEV:
    torch.manual_seed(0)
    found = {**(options or {}), **said}
    method = build_method(MethodConfig("distillbev", found), student or spec("camera"), spec("lidar"))
    assert isinstance(method, DistillBEV)
    return method


def losses(method: DistillBEV, student: BEVOutputs, teacher: BEVOutputs, context: DistillContext) -> dict[str, Tensor]:
    return method.losses(student, method.targets(teacher, context), context)


def rows(*boxes: tuple[float, ...], frame: list[int] | None = None) -> Boxes:
    """Boxes of (x, y, l, w, yaw)."""
    out = torch.zeros(len(boxes), 9)
    out[:, [0, 1, 3, 4, 6]] = torch.tensor(boxes, dtype=torch.float32).view(-1, 5)
    n = len(boxes)
    return Boxes(out, torch.zeros(n, dtype=torch.long), torch.tensor(frame or [0] * n), torch.ones(n))


def regions_of(boxes: Boxes, fp: Tensor | None = None, grid: BEVGrid = SQUARE, **options: Any) -> Regions:
    frames = 1 + int(boxes.frame.max()) if len(boxes) else 1
    return split_regions(box_owners(boxes, grid, frames), boxes, grid.cell, fp, options.get("scaling", "adaptive"))


# --- regions and scales

BOX = st.tuples(
    st.floats(-11, 11), st.floats(-11, 11), st.floats(0.2, 30), st.floats(0.2, 6), st.floats(-4, 4)
)  # fmt: skip


@given(st.lists(BOX, max_size=5), st.integers(0, 2**20))
@settings(deadline=None, max_examples=60)
def test_regions_partition_the_map(boxes: list[tuple[float, ...]], seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    fires = torch.rand(1, 16, 16, generator=g) < 0.3
    found = regions_of(rows(*boxes), fires)
    assert torch.equal(found.fg.int() + found.fp.int() + found.tn.int(), torch.ones(1, 16, 16, dtype=torch.int32))
    assert torch.equal(found.fp, fires & ~found.fg)
    for region in (found.fp, found.tn):  # a mean over each
        assert float(found.scale[region].sum()) == pytest.approx(float(region.any()), abs=1e-4)
    assert torch.isfinite(found.scale).all()
    assert torch.equal(found.weights().sum(0), found.scale)


def test_scale_of_one_box_by_hand() -> None:
    found = regions_of(rows((1.0, -2.0, 4.0, 2.0, 0.0)))  # x in [-1, 3], y in [-3, -1]: 4 x 2 cells of 1 m
    wanted = torch.zeros(16, 16, dtype=torch.bool)
    wanted[5:7, 7:11] = True
    assert torch.equal(found.fg[0], wanted)
    assert found.scale[0][wanted].tolist() == pytest.approx([1 / math.sqrt(8)] * 8)
    assert found.scale[0][~wanted].unique().tolist() == pytest.approx([1 / (256 - 8)])
    # Cells of half the side: h w is four times as large; the weight of the object grows by the factor two.
    fine = regions_of(rows((1.0, -2.0, 4.0, 2.0, 0.0)), grid=SQUARE.refined(2))
    assert float(fine.scale[fine.fg].sum()) == pytest.approx(2 * 8 / math.sqrt(8))


def test_counts_are_those_of_a_frame() -> None:
    fires = torch.zeros(2, 16, 16, dtype=torch.bool)
    fires[0, 0, :4] = fires[1, 0, :2] = True
    found = regions_of(rows((0, 0, 2, 2, 0), (0, 0, 4, 4, 0), frame=[0, 1]), fires)
    assert [float(s[r][0]) for s, r in zip(found.scale, found.fp, strict=True)] == pytest.approx([1 / 4, 1 / 2])
    assert [float(s[r][0]) for s, r in zip(found.scale, found.tn, strict=True)] == pytest.approx([1 / 248, 1 / 238])


def test_a_cell_of_several_boxes_belongs_to_the_first() -> None:
    large, small = (0.0, 0.0, 8.0, 8.0, 0.0), (0.0, 0.0, 2.0, 2.0, 0.0)
    assert float(regions_of(rows(large, small)).scale[0, 8, 8]) == pytest.approx(1 / 8)
    assert float(regions_of(rows(small, large)).scale[0, 8, 8]) == pytest.approx(1 / 2)
    assert box_owners(rows(large, small), SQUARE, 1).unique().tolist() == [0, 2]


def test_a_box_turned_by_a_quarter_takes_other_cells() -> None:
    found = box_owners(rows((1.0, -2.0, 4.0, 2.0, math.pi / 2 + 1e-6)), SQUARE, 1)[0] == 0
    wanted = torch.zeros(16, 16, dtype=torch.bool)
    wanted[4:8, 8:10] = True
    assert torch.equal(found, wanted)


def test_the_corner_of_a_cell_shifts_masks_by_half_a_cell() -> None:
    b = rows((1.1, -2.1, 4.0, 2.0, 0.3))
    moved = replace(b, boxes=b.boxes + torch.tensor([0.5, 0.5, 0, 0, 0, 0, 0, 0, 0]))
    assert torch.equal(box_owners(b, SQUARE, 1, "corner"), box_owners(moved, SQUARE, 1, "centre"))
    assert not torch.equal(box_owners(b, SQUARE, 1, "corner"), box_owners(b, SQUARE, 1, "centre"))


def test_small_objects_have_a_cell_if_they_shall() -> None:
    cone = rows((1.1, 2.1, 0.4, 0.4, 0.0), (99.0, 0.0, 0.4, 0.4, 0.0))
    assert (box_owners(cone, SQUARE, 1) == 2).all()
    found = box_owners(cone, SQUARE, 1, one_cell=True)[0]
    assert (found == 0).nonzero().tolist() == [[10, 9]]
    assert not (found == 1).any()
    scale = split_regions(found[None], cone, 1.0, None, "adaptive").scale
    assert float(scale[0, 10, 9]) == pytest.approx(1 / 0.4)  # not clipped


@given(st.lists(BOX, min_size=1, max_size=4), st.booleans(), st.booleans())
@settings(deadline=None, max_examples=40)
def test_a_window_around_boxes_holds_all_their_cells(
    boxes: list[tuple[float, ...]], corner: bool, one_cell: bool
) -> None:
    b, grid = rows(*boxes), replace(SQUARE, W=20, x_min=-11.0)  # not square
    found = box_owners(b, grid, 1, "corner" if corner else "centre", one_cell)
    with pytest.MonkeyPatch.context() as patch:  # as on a device, where it costs something to know a size
        patch.setattr("bevkd.distill.regions.reads_are_free", lambda device: False)
        assert torch.equal(found, box_owners(b, grid, 1, "corner" if corner else "centre", one_cell))


@pytest.mark.parametrize("far", [1e5, -1e5])
def test_boxes_far_away_and_huge_ones_are_harmless(far: float) -> None:
    assert (box_owners(rows((far, far, 4, 2, 0.1)), SQUARE, 1) == 1).all()
    everywhere = regions_of(rows((0, 0, 90, 90, 0)), torch.ones(1, 16, 16, dtype=torch.bool))
    assert everywhere.fg.all()
    assert everywhere.scale.unique().tolist() == pytest.approx([1 / 90])
    assert torch.isfinite(regions_of(rows((0, 0, 0, 0, 0)), scaling="code").scale).all()


def test_scalings() -> None:
    fires = torch.zeros(1, 16, 16, dtype=torch.bool)
    fires[0, 0] = True
    huge = rows((0, 0, 200, 300, math.pi / 4), (0, 0, 12, 12, 0))
    huge.boxes[0, 2:5] = torch.tensor([0, 16.0, 1e5])  # a strip across, whose cells weigh 1 / sqrt(16e5)
    adaptive, code = (regions_of(huge, fires, scaling=name) for name in ("adaptive", "code"))
    counted = float(1 / adaptive.tn.sum())
    assert float(adaptive.scale[adaptive.fg].min()) < counted
    assert float(code.scale[code.fg].min()) == pytest.approx(counted)
    assert torch.equal(adaptive.scale[~adaptive.fg], code.scale[~code.fg])
    assert (regions_of(huge, fires, scaling="uniform").scale == 1 / 256).all()


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_turned_scene_has_turned_regions(turns: int) -> None:
    b, fires = make_boxes([8], seed=3, grid=SQUARE), torch.rand(1, 16, 16) < 0.2
    turned = b.boxes.clone()
    for _ in range(turns):
        turned[:, :2] = torch.stack([-turned[:, 1], turned[:, 0]], 1)
        turned[:, 6] += math.pi / 2
    found, other = regions_of(b, fires), regions_of(replace(b, boxes=turned), torch.rot90(fires, -turns, (1, 2)))
    assert found.fg.any()
    for one, two in zip(found, other, strict=True):  # y is up the rows: a turn to the left is one of rows downwards
        torch.testing.assert_close(torch.rot90(one, -turns, (1, 2)), two)


@pytest.mark.parametrize("who", ["teacher", "student", "rejected", "union"])
def test_who_fires_where_nothing_is(who: Any) -> None:
    scores = torch.tensor([0.05, 0.1, 0.5])
    t, s, d = (x.reshape(1, -1) for x in torch.meshgrid(scores, scores, scores, indexing="ij"))
    found = only_they_fire(who, t, s, d, 0.1)[0].tolist()
    for got, a, b, drawn in zip(found, t[0].tolist(), s[0].tolist(), d[0].tolist(), strict=True):
        by_teacher, rejected = a > 0.11, b > 0.11 and a < 0.09
        fires = {"teacher": by_teacher, "student": b > 0.11, "rejected": rejected, "union": by_teacher or rejected}
        assert got == (drawn < 0.09 and fires[who])


def test_masks_shrink_by_any_and_grow_by_repeating() -> None:
    mask = torch.zeros(1, 4, 6, dtype=torch.bool)
    mask[0, 1, 2] = True
    assert resized_mask(mask, 2, 3).nonzero().tolist() == [[0, 0, 1]]
    assert resized_mask(mask, 8, 12).nonzero().tolist() == [[0, 2, 4], [0, 2, 5], [0, 3, 4], [0, 3, 5]]
    assert resized_mask(mask, 4, 6) is mask


def test_drawn_peaks_are_the_highest_heat_of_all_classes() -> None:
    b = make_boxes([5, 0, 4], seed=2)
    b.boxes[0, :2] = torch.tensor([GRID.x_max + 1, 0])  # off the map
    heat = drawn_heat(b, GRID, 3, range(10), 0.1, 2)
    torch.testing.assert_close(drawn_peaks(b, GRID, 3, 0.1, 2), heat.amax(1))


# --- attention and distances


@given(st.floats(0.05, 20), st.integers(0, 2**20))
@settings(deadline=None, max_examples=30)
def test_attention_has_the_mean_one(tau: float, seed: int) -> None:
    maps = torch.randn(2, 6, 5, 4, generator=torch.Generator().manual_seed(seed))
    found = cell_attention(pooled(maps, "absmean"), tau)
    assert found.sum((1, 2)).tolist() == pytest.approx([30, 30], rel=1e-4)
    assert channel_attention(maps, tau).sum(1).tolist() == pytest.approx([4, 4], rel=1e-4)


def test_attention_by_hand() -> None:
    maps = torch.zeros(1, 1, 2, 2)
    maps[0, 0, 1] = torch.tensor([1.0, -math.log(3) + 1])  # mean |F| = log(3) / 2
    assert pooled(maps, "absmean")[0, 0].tolist() == pytest.approx([0, math.log(3) / 2])
    assert pooled(maps, "mean")[0, 0].tolist() == pytest.approx([0, 1 - math.log(3) / 2])
    assert cell_attention(pooled(maps, "absmean"), 0.5)[0, 0].tolist() == pytest.approx([0.5, 1.5])


@pytest.mark.parametrize("piece", [1, 7, 10**6])
@pytest.mark.parametrize("rectified", [False, True])
def test_distances_and_their_gradient(piece: int, rectified: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bevkd.distill.map_attention._PIECE", piece)
    raw, taught = torch.randn(2, 3, 4, 5, requires_grad=True), torch.randn(2, 3, 4, 5)
    own = F.relu(raw) if rectified else raw
    weights, others = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    wanted = ((own - taught).square().sum(-1), own.abs().mean(-1), taught.abs().mean(-1))
    found = cell_distances(own, taught, rectified)
    for one, two in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, two)
    assert not found[2].requires_grad
    for a, b in ((weights, others), (weights, 0 * others), (0 * weights, others)):
        gradients = [
            torch.autograd.grad((a * f[0]).sum() + (b * f[1]).sum(), raw, retain_graph=True)[0] for f in (found, wanted)
        ]
        torch.testing.assert_close(*gradients)
    alone = [torch.autograd.grad((weights * f[0]).sum(), raw, retain_graph=True)[0] for f in (found, wanted)]
    torch.testing.assert_close(*alone)
    only = [torch.autograd.grad((others * f[1]).sum(), raw, retain_graph=True)[0] for f in (found, wanted)]
    torch.testing.assert_close(*only)


def test_the_gradient_of_a_map_that_is_not_channels_last_in_memory() -> None:
    maps, taught = torch.randn(2, 5, 3, 4, requires_grad=True), torch.randn(2, 3, 4, 5)
    squares, _, _ = cell_distances(maps.permute(0, 2, 3, 1), taught, False)
    squares.sum().backward()
    torch.testing.assert_close(maps.grad, 2 * (maps.detach() - taught.permute(0, 3, 1, 2)))


# --- adapters


@pytest.mark.parametrize("align", [True, False])
def test_the_first_convolution_commutes_with_resampling(align: bool) -> None:
    adapter = MapAdapter(6, 4, 3, align)
    maps = torch.randn(2, 6, 5, 7)
    x = F.interpolate(maps, (20, 28), mode="bilinear", align_corners=align)
    for layer, norm in zip(adapter.layers, adapter.norms, strict=True):
        assert isinstance(layer, nn.Linear)
        x = F.relu(F.batch_norm(F.conv2d(x, layer.weight[..., None, None]), None, None, training=True, eps=1e-5))
        assert norm.eps == 1e-5  # type: ignore[comparison-overlap]
    torch.testing.assert_close(adapter(maps, (20, 28)), x.permute(0, 2, 3, 1), rtol=1e-4, atol=1e-5)


# Widths and cells of the students' maps at the published size: stages of the residual encoder, and the map of the head.
PAPER = {"B0": (128, 64, 64, 256), "B1": (256, 32, 128, 128), "B2": (512, 16, 256, 64), "high": (256, 128, 384, 128)}


@pytest.mark.parametrize(("level", "parameters"), [("B1", 0.166e6), ("B2", 0.659e6), ("high", 0.099e6)])
def test_published_shapes_and_parameters(level: str, parameters: float) -> None:
    inputs, cells, outputs, wanted = PAPER[level]
    adapter = MapAdapter(inputs, outputs, 3 if level.startswith("B") else 1)
    assert sum(p.numel() for p in adapter.parameters()) == pytest.approx(parameters, rel=6e-3)
    small = adapter(torch.randn(1, inputs, cells // 4, cells // 4), (wanted // 4, wanted // 4))
    assert small.shape == (1, wanted // 4, wanted // 4, outputs)


def test_levels_of_the_published_networks_fit() -> None:
    def network(sensor: str, widths: dict[str, tuple[int, float]]) -> FeatureSpec:
        found = FeatureSpec.of_bev(64, widths["high"][0], 10, 60, (sensor,))
        stages = {name: FeatureInfo(width, stride, stage="high") for name, (width, stride) in widths.items()}
        return replace(found, features=found.features | stages)

    student = network("camera", {"B0": (128, 2), "B1": (256, 4), "B2": (512, 8), "high": (256, 1)})
    teacher = network("lidar", {"B0": (64, 0.5), "B1": (128, 1), "B2": (256, 2), "high": (384, 1)})
    made = build_method(MethodConfig("distillbev", {"levels": ["B0", *LEVELS]}), student, teacher)
    g = BEVGrid(-6.4, -6.4, 0.8, 16, 16)
    outputs = [
        BEVOutputs(
            {
                name: torch.randn(1, info.channels, round(16 / info.stride), round(16 / info.stride))
                for name, info in one.features.items()
                if name.startswith(("B", "high"))
            },
            make_outputs(1, grid=g).head,
        )
        for one in (student, teacher)
    ]
    context = DistillContext(g, 1, make_boxes([3], grid=g), torch.ones(1, dtype=torch.bool))
    found = losses(made, *outputs, context)  # type: ignore[arg-type]
    assert all(torch.isfinite(loss) and loss > 0 for loss in found.values())
    with pytest.raises(ConfigError, match="not to coarser"):
        build_method(MethodConfig("distillbev"), teacher, student)


# --- the losses


def slow_losses(method: DistillBEV, student: BEVOutputs, teacher: BEVOutputs, context: DistillContext) -> Any:
    """All terms as sums of single cells, from the adapted maps."""
    config, used, out = method.config, method.used, defaultdict[str, float](float)
    heat = drawn_heat(context.boxes, context.grid, context.batch_size, range(10), 0.1, 2).amax(1)
    fires = (torch.sigmoid(teacher.heatmaps()).amax(1) > config.gamma) & (heat < config.gamma)
    for level in used.levels:
        t = teacher.feature(level)
        g = context.grid.scaled(context.grid.H // t.shape[2])
        own = method.adapters[level](student.feature(level), t.shape[2:]).permute(0, 3, 1, 2).detach()
        activity = [m.abs().mean(1) for m in (t, own)]
        attention = [torch.softmax(m.flatten(1) / config.tau, 1).view(m.shape) * g.H * g.W for m in activity]
        a = (attention[0] + attention[1]) / 2 if used.attention == "teacher_student" else attention[0]
        for frame in range(context.batch_size):
            cells: dict[str, list[tuple[int, int, float]]] = {"fg": [], "fp": [], "tn": []}
            for iy in range(g.H):
                for ix in range(g.W):
                    x, y = g.x_min + (ix + 0.5) * g.cell, g.y_min + (iy + 0.5) * g.cell
                    held = [
                        b
                        for b, f in zip(context.boxes.boxes.tolist(), context.boxes.frame.tolist(), strict=True)
                        if f == frame and in_box(x, y, b)
                    ]
                    if held:
                        cells["fg"].append((iy, ix, g.cell / math.sqrt(held[0][3] * held[0][4])))
                    elif level in config.with_fp and fires[frame, iy, ix]:
                        cells["fp"].append((iy, ix, 0))
                    else:
                        cells["tn"].append((iy, ix, 0))
            for region, members in cells.items():
                for iy, ix, s in members:
                    d2 = float((t[frame, :, iy, ix] - own[frame, :, iy, ix]).square().sum())
                    scale = s if region == "fg" else 1 / len(members)
                    out[f"{region}_{level}"] += scale * float(a[frame, iy, ix]) * d2 / context.batch_size
        out[f"attn_{level}"] = float((activity[0] - activity[1]).abs().sum()) / context.batch_size
    return dict(out)


def in_box(x: float, y: float, b: list[float]) -> bool:
    c, s = math.cos(b[6]), math.sin(b[6])
    dx, dy = x - b[0], y - b[1]
    return abs(c * dx + s * dy) <= b[3] / 2 and abs(c * dy - s * dx) <= b[4] / 2


@pytest.mark.parametrize("attention", ["teacher", "teacher_student"])
def test_losses_equal_their_formula_cell_by_cell(attention: str) -> None:
    method = build(attention=attention, gamma=0.9)
    student, teacher, context = make_outputs(2, 1), make_outputs(2, 2), make_context([4, 2])
    wanted = slow_losses(method, student, teacher, context)
    found = {name: float(loss.detach()) for name, loss in losses(method, student, teacher, context).items()}
    assert found.keys() == {f"{part}_{level}" for part in ("fg", "tn", "attn") for level in LEVELS} | {"fp_high"}
    assert {name: wanted[name] for name in found} == pytest.approx(found, rel=2e-4)


def identical(level: str = "high", **options: Any) -> tuple[DistillBEV, BEVOutputs, BEVOutputs]:
    """A method with an adapter that changes nothing, and equal outputs."""
    method = build(levels=[level], **options)
    adapter = method.adapters[level]
    assert isinstance(adapter, MapAdapter)
    layer = adapter.layers[0]
    assert isinstance(layer, nn.Linear)
    nn.init.eye_(layer.weight)
    nn.init.zeros_(layer.bias)
    return method, make_outputs(2, 1, grad=True), make_outputs(2, 1)


def test_equal_maps_have_no_loss() -> None:
    method, student, teacher = identical()
    found = losses(method, student, teacher, make_context([3, 2]))
    assert {name: float(loss.detach()) for name, loss in found.items()} == dict.fromkeys(found, 0.0)
    torch.stack(list(found.values())).sum().backward()
    assert not student.high.grad.any()


def test_a_loss_by_hand() -> None:
    """One box of 2 x 1 cells in a map that differs by 0.5 in each of 8 channels, without attention."""
    method, student, teacher = identical(attention="none", gamma=1.0)
    teacher.features["high"] = student.high.detach() + 0.5
    b = rows((0.8, 0.4, 1.6, 0.8, 0.0))
    context = DistillContext(GRID, 2, b, torch.ones(2, dtype=torch.bool))
    found = losses(method, student, teacher, context)
    d2 = 8 * 0.25
    assert float(found["fg_high"].detach()) == pytest.approx(2 / math.sqrt(2) * d2 / 2, rel=1e-5)
    assert float(found["tn_high"].detach()) == pytest.approx(d2, rel=1e-5)  # a mean over cells, then over both frames
    assert float(found["fp_high"]) == 0
    assert method.weights() == pytest.approx({"fg_high": 6e-3, "fp_high": 0.12, "tn_high": 4e-2, "attn_high": 2.5e-3})


def test_gradients_go_to_the_student_alone_and_not_through_attention() -> None:
    method, student, teacher = identical(weights={"imitation": 0})
    teacher.features["high"] = make_outputs(2, 5, grad=True).high
    context = make_context([3, 2])
    targets = method.targets(teacher, context)
    assert not any(target.values.requires_grad for target in targets.values())
    torch.stack(list(method.losses(student, targets, context).values())).sum().backward()
    assert teacher.high.grad is None
    # With A as a constant: 2 W (F_S - F_T), W the weights of the cells.
    t, own = teacher.high.detach(), student.high.detach()
    a = sum(cell_attention(m.abs().mean(1), 0.5) for m in (t, own)) / 2
    fp = (torch.sigmoid(teacher.heatmaps()).amax(1) > 0.1) & (drawn_peaks(context.boxes, GRID, 2, 0.1, 2) < 0.1)
    weight = split_regions(box_owners(context.boxes, GRID, 2), context.boxes, GRID.cell, fp, "adaptive").scale * a / 2
    torch.testing.assert_close(student.high.grad, 2 * weight[:, None] * (own - t), rtol=1e-4, atol=1e-7)


def frames_of(outputs: BEVOutputs, context: DistillContext, order: list[int]) -> tuple[BEVOutputs, DistillContext]:
    """Some frames of a batch, in another order."""
    maps = {name: outputs.feature(name)[order] for name in LEVELS}
    heads = [replace(h, heatmap=h.heatmap[order]) for h in outputs.heads]
    parts = [context.boxes.select(context.boxes.frame == frame) for frame in order]
    boxes = Boxes.cat([replace(p, frame=torch.full_like(p.frame, k)) for k, p in enumerate(parts)])
    head = replace(outputs.head, tasks=heads)  # type: ignore[type-var]
    labelled = torch.ones(len(order), dtype=torch.bool)
    return BEVOutputs(maps, head), replace(context, batch_size=len(order), boxes=boxes, labelled=labelled)


def test_a_batch_is_the_mean_of_its_frames_in_any_order() -> None:
    method = build(false_positives="union").eval()  # statistics of batch norms are those of a batch
    student, teacher, context = make_outputs(3, 1), make_outputs(3, 2), make_context([4, 0, 2])

    def of(order: list[int]) -> dict[str, float]:
        own, inner = frames_of(student, context, order)
        found = losses(method, own, frames_of(teacher, context, order)[0], inner)
        return {name: float(loss.detach()) for name, loss in found.items()}

    whole, alone = of([0, 1, 2]), [of([k]) for k in range(3)]
    assert of([2, 0, 1]) == pytest.approx(whole, rel=1e-5)
    assert {name: float(np.mean([one[name] for one in alone])) for name in whole} == pytest.approx(whole, rel=1e-5)
    counts, found = PartCounts(2), []
    for shared in (False, True):  # a batch in parts of two and one
        for order in ([0, 1], [2]):
            with counts.shared() if shared else counts.counted():
                found.append(of(order))
    assert {name: (found[2][name] + found[3][name]) / 2 for name in whole} == pytest.approx(whole, rel=1e-5)


@pytest.mark.parametrize("case", ["no box", "nothing fires", "all fires", "huge boxes", "tiny boxes", "far boxes"])
@pytest.mark.parametrize("scaling", ["adaptive", "code", "uniform"])
def test_losses_are_finite_whatever_is_there(case: str, scaling: str) -> None:
    method = build(scaling=scaling, fp_levels=list(LEVELS), fg_min_one_cell=True)
    student, teacher = make_outputs(2, 1, grad=True), make_outputs(2, 2)
    context = make_context([0, 0] if case == "no box" else [3, 2])
    sizes = {"huge boxes": 1e3, "tiny boxes": 0.0}
    if case in sizes:
        context.boxes.boxes[:, 3:5] = sizes[case]
    if case == "far boxes":
        context.boxes.boxes[:, :2] += 1e4
    for head in teacher.heads:
        head.heatmap.fill_({"nothing fires": -50.0, "all fires": 50.0}.get(case, -2.0))
    found = losses(method, student, teacher, context)
    torch.stack(list(found.values())).sum().backward()
    assert all(torch.isfinite(loss) for loss in found.values())
    assert all(torch.isfinite(student.feature(level).grad).all() for level in LEVELS)
    if case == "no box":
        assert all(float(found[f"fg_{level}"]) == 0 for level in LEVELS)
    if case == "nothing fires":
        assert all(float(found[f"fp_{level}"]) == 0 for level in LEVELS)
    if case == "all fires" and scaling == "adaptive":
        assert float(found["fp_B2"]) > 0


@pytest.mark.parametrize("options", [{}, {"false_positives": "union", "fp_levels": ["B2", "high"], "scaling": "code"}])
def test_a_step_reads_nothing_back_from_a_device(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    from test_distill_no_read_back import Watch

    for place in ("regions", "map_attention"):
        monkeypatch.setattr(f"bevkd.distill.{place}.reads_are_free", lambda device: False)
    method, context = build(options), make_context([3, 0, 2])
    student, teacher = make_outputs(3, 1, grad=True), make_outputs(3, 2)
    with Watch() as watch:
        found = losses(method, student, teacher, context)
        torch.stack(list(found.values())).sum().backward()
    assert watch.found == []


def test_features_of_huge_maps_add_up_in_float32() -> None:
    method, student, teacher = identical(attention="none")
    student.features["high"] = student.high.detach().bfloat16()
    found = losses(method, student, teacher, make_context([3, 2]))
    assert all(loss.dtype == torch.float32 for loss in found.values())


def test_channel_attention_weighs_the_channels_of_false_positives() -> None:
    plain, other = (
        build(levels=["high"], fp_channel_attention=on, attention="none", gamma=0.3) for on in (False, True)
    )
    student, teacher, context = make_outputs(1, 1), make_outputs(1, 2), make_context([2])
    teacher.features["high"] *= torch.linspace(0.2, 3, 8).view(1, 8, 1, 1)
    one, two = (losses(m, student, teacher, context) for m in (plain, other))
    assert all(torch.equal(one[name], two[name]) for name in one if name != "fp_high")
    own = plain.adapters["high"](student.high, (GRID.H, GRID.W)).permute(0, 3, 1, 2)
    channel = 8 * torch.softmax(teacher.high.abs().mean((2, 3)) / 0.5, 1)[0]
    mask = (torch.sigmoid(teacher.heatmaps()).amax(1) > 0.3) & (drawn_peaks(context.boxes, GRID, 1, 0.1, 2) < 0.3)
    mask &= box_owners(context.boxes, GRID, 1) == len(context.boxes)
    d2 = (own - teacher.high).square()[0]
    assert float(two["fp_high"]) == pytest.approx(float((channel[:, None, None] * d2).sum(0)[mask[0]].mean()), rel=1e-4)
    assert float(one["fp_high"]) == pytest.approx(float(d2.sum(0)[mask[0]].mean()), rel=1e-4)


def test_attention_imitation_of_the_code() -> None:
    method = build(levels=["high"], attn_pool="mean", attn_proj="conv3x3")
    student, teacher, context = make_outputs(2, 1), make_outputs(2, 2), make_context([2, 1])
    found = losses(method, student, teacher, context)["attn_high"]
    own = method.adapters["high"](student.high, (GRID.H, GRID.W)).permute(0, 3, 1, 2)
    projected = method.projections["high"](own.mean(1, keepdim=True))
    wanted = (teacher.high.mean(1, keepdim=True) - projected).abs().sum() / 2
    torch.testing.assert_close(found, wanted)


def test_without_regions_every_cell_is_one_of_many() -> None:
    method = build(levels=["high"], regions=False, attention="none", weights={"imitation": 0})
    student, teacher, context = make_outputs(2, 1), make_outputs(2, 2), make_context([3, 2])
    assert not method.wanted.boxes
    assert method.wanted.features == {"high"}
    found = losses(method, student, teacher, context)
    own = method.adapters["high"](student.high, (GRID.H, GRID.W)).permute(0, 3, 1, 2)
    assert found.keys() == {"tn_high"}
    torch.testing.assert_close(found["tn_high"], (own - teacher.high).square().sum(1).mean())


def test_false_positives_of_detections_are_cells_in_boxes_found() -> None:
    method = build(preset="transformer_mvp", attention="none")
    student, teacher, context = make_outputs(2, 1), make_outputs(2, 2), make_context([1, 1])
    found = rows((3.0, 3.0, 4.0, 2.0, 0.4), (-3.0, -3.0, 4.0, 2.0, 0.0), frame=[0, 1])
    found.scores[:] = torch.tensor([0.2, 0.05])
    teacher.head_output = replace(teacher.head, decoder=lambda _: found)  # type: ignore[type-var]
    cells = method.targets(teacher, context)["detected cell"]
    assert cells.frame.unique().tolist() == [0]
    mask = torch.zeros(GRID.H * GRID.W, dtype=torch.bool)
    mask[cells.values] = True
    assert torch.equal(mask.view(GRID.H, GRID.W), box_owners(found, GRID, 2)[0] == 0)
    loss = losses(method, student, teacher, context)["fp_high"]
    mask &= (box_owners(context.boxes, GRID, 2)[0] == len(context.boxes)).flatten()
    own = method.adapters["high"](student.high, (GRID.H, GRID.W)).permute(0, 3, 1, 2)
    d2 = (own - teacher.high).square().sum(1)[0].flatten()
    assert float(loss) == pytest.approx(float(d2[mask].mean()) / 2, rel=1e-4)


# --- options


def test_presets_and_what_is_said_in_their_place() -> None:
    def used(**options: Any) -> Any:
        made = method_settings(MethodConfig("distillbev", options))
        assert isinstance(made, DistillBEVConfig)
        return made.used

    assert used() == PRESETS["cnn"]
    assert (used().alpha, used().beta, used().imitation, used().eta) == (6e-3, 4e-2, 2.5e-3, 20)
    centre = used(preset="transformer_centerpoint")
    assert (centre.alpha, centre.beta, centre.imitation, centre.levels) == (3e-3, 4e-2, 1e-3, ("high",))
    mvp = used(preset="transformer_mvp", weights={"beta": 0.5, "eta": 0}, levels=["low"], attention="none")
    assert mvp == replace(PRESETS["transformer_mvp"], beta=0.5, eta=0, levels=("low",), attention="none")


def test_sums_of_a_small_map_become_those_of_the_published_size() -> None:
    """A scene, and the same with half of the cells a side twice as large, in maps of a quarter of the channels."""
    fine = BEVGrid(-25.6, -25.6, 0.4, 128, 128)
    found = []
    for factor, channels in ((1, 64), (2, 16)):
        g = fine.scaled(factor)
        method = build(levels=["high"], sums="published", attention="none", student=wide("camera", channels))
        method.adapters["high"] = MapAdapter(channels, channels, 1)
        nn.init.eye_(method.adapters["high"].layers[0].weight)  # type: ignore[arg-type,index]
        nn.init.zeros_(method.adapters["high"].layers[0].bias)  # type: ignore[arg-type,index]
        maps = torch.zeros(1, channels, g.H, g.W)
        boxes = rows((0.0, 0.0, 8.0, 3.2, 0.0), (10.4, 6.4, 4.8, 1.6, 0.0))
        fires = torch.full((1, g.H, g.W), -9.0)
        fires[:, : g.H // 8] = 9.0
        targets = {
            "high": Target(0.5 + maps.permute(0, 2, 3, 1), torch.zeros(1, dtype=torch.long)),
            "heat": Target(fires, torch.zeros(1, dtype=torch.long)),
        }
        context = DistillContext(g, 1, boxes, torch.ones(1, dtype=torch.bool))
        out = method.losses(BEVOutputs({"high": maps}), targets, context)
        found.append({name: float(loss.detach()) for name, loss in out.items()})
    assert found[0] == pytest.approx(found[1], rel=1e-4)
    assert found[0]["tn_high"] == pytest.approx(0.25 * 384, rel=1e-4)  # what 384 channels would add up to
    assert found[0]["attn_high"] == pytest.approx(0.5 * 128 * 128, rel=1e-4)
    # Two objects in a map of the published cells (0.8 m), but of a quarter of its area: they count four times.
    by_hand = 384 * 0.25 * 4 * sum(length * width / 0.8**2 * 0.8 / math.sqrt(length * width) for length, width in
                                   ((8.0, 3.2), (4.8, 1.6)))  # fmt: skip
    assert found[0]["fg_high"] == pytest.approx(by_hand, rel=1e-4)


def wide(sensor: str, high: int) -> FeatureSpec:
    return FeatureSpec.of_bev(8, high, sum(TASKS), 11 * len(TASKS), (sensor,))


def test_rows_that_differ_in_levels_weights_or_switches_share_columns() -> None:
    def columns(**options: Any) -> set[str]:
        return set(method_settings(MethodConfig("distillbev", options)).cached().columns)

    same: list[dict[str, Any]] = [
        {"weights": {"eta": 10}},
        {"levels": ["high"]},
        {"levels": ["B2", "high"]},
        {"gamma": 0.3},
        {"cell_point": "corner", "scaling": "code", "fp_channel_attention": True},
        {"false_positives": "none"},
        {"false_positives": "union"},
        {"sums": "published"},
    ]
    assert all(columns(**options) <= columns() for options in same)
    assert columns(levels=["B0", *LEVELS]) > columns(), "a level more is a column more"
    assert not columns(false_positives="detections") <= columns()


def test_a_cached_teacher_teaches_as_a_live_one(tmp_path: Path) -> None:
    from distill_data import make_batch, with_targets

    from bevkd.distill import SCORE_THRESHOLD

    method = build()
    frames = Frames(["t1", "t2", "t3"], np.array([True, False, True]), [1] * 3)
    cache = build_cache(
        method.config.cached(), ToyTeacher(), frames, tmp_path / "c", all_entries(frames), teacher_digest="",
        collate=collate,
    )  # fmt: skip
    batch = make_batch(frames.tokens, [0] * 3, frames.labelled.tolist())
    student = make_outputs(3, 7)
    live = DistillEngine(method, GRID, teacher=ToyTeacher())(student, batch)
    stored = with_targets(batch, cache.reader(method.wanted, GRID, SCORE_THRESHOLD))
    cached = DistillEngine(method, GRID, cached=True)(student, stored)
    for name, value in live.items():
        assert float(cached[name]) == pytest.approx(float(value), rel=2e-3), name
    # Three maps and the heat in float16; what a frame takes is known before.
    numbers = sum(width * GRID.H * GRID.W // stride**2 for width, stride in STAGES[1:]) + 9 * GRID.H * GRID.W
    (part,) = cache.parts
    assert sum(part.rows(tap.column, 0).nbytes for tap in method.taps().values()) == 2 * numbers


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": {"alpha": 0, "beta": 0, "imitation": 0}}, "switched off"),
        ({"levels": []}, "levels"),
        ({"levels": ["B1", "B1"]}, "twice"),
        ({"levels": ["B7"]}, "no feature 'B7'"),
        ({"levels": ["image0"]}, "no BEV map"),
        ({"fp_levels": ["B0"]}, "'B0' is none of the levels B1, B2, high"),
        ({"levels": ["low"], "sums": "published"}, "no size of 'low' is published"),
        ({"preset": "cnns"}, "preset"),
        ({"tau": 0}, "tau"),
        ({"gamma": 1.5}, "gamma"),
        ({"weights": {"eta": -1}}, "eta"),
        ({"adapters": {"layers": 0}}, "layers"),
    ],
)
def test_bad_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(options)


def test_networks_that_do_not_fit_are_refused() -> None:
    headless = replace(spec("lidar"), classes=0)
    for student, teacher, options in (
        (spec("camera"), headless, {}),
        (headless, spec("lidar"), {"false_positives": "union"}),
    ):
        with pytest.raises(ConfigError, match="needs a head with heat maps"):
            build_method(MethodConfig("distillbev", options), student, teacher)
    build_method(MethodConfig("distillbev", {"false_positives": "none"}), headless, headless)
    method, context = build(levels=["high"]), make_context([1])
    targets = method.targets(make_outputs(1), context)
    odd = targets | {"high": replace(targets["high"], values=targets["high"].values[:, :-1])}
    with pytest.raises(DataError, match="23 x 32 cells"):
        method.losses(make_outputs(1), odd, context)


# --- what is published


def test_published_detection_scores_follow_from_the_other_six_metrics() -> None:
    found: dict[tuple[str, ...], dict[str, float]] = defaultdict(dict)
    with (ROOT / "config" / "reference" / "distillbev.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            found[row["table"], row["row_label"], row["split"], row["variant"]][row["metric"]] = float(row["value"])
    errors = ("mATE", "mASE", "mAOE", "mAVE", "mAAE")
    full = {key: row for key, row in found.items() if {"mAP", "NDS", *errors} <= row.keys()}
    assert len(full) >= 12
    for key, row in full.items():
        score = (5 * row["mAP"] + sum(max(0.0, 100 - row[name]) for name in errors)) / 10
        assert score == pytest.approx(row["NDS"], abs=0.1), key
