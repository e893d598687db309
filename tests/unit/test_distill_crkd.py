"""CRKD: every loss and option against values worked out by hand or by slow loops written here."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from distill_data import GRID, LOW, MAPS, TASKS, make_boxes, make_context, make_outputs, spec
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from bevkd.classes import LABEL_INDEX
from bevkd.config import MethodConfig
from bevkd.data.batch import Boxes
from bevkd.distill import DistillContext, build_method, method_settings
from bevkd.distill.heat import drawn_heat, pooled_heat, pooled_scores
from bevkd.distill.masks import inside_boxes
from bevkd.distill.methods.crkd import CRKD, class_weights
from bevkd.distill.methods.crkd_settings import CRKDConfig, RespdConfig
from bevkd.distill.relation_maps import resized, token_relation
from bevkd.distill.scaled_boxes import code_rectangles, footprint_mask, growth, hulls, scaled
from bevkd.distill.soft_response import lowered
from bevkd.distill.taps.footprints import NOT_A_NUMBER, Footprints
from bevkd.errors import ConfigError
from bevkd.geometry.gaussian import gaussian_radius
from bevkd.models.features import FeatureInfo
from bevkd.models.outputs import BEVOutputs, CenterOutput, TaskOutput
from bevkd.ranks import PartCounts

OFF = {name: {"enabled": False} for name in ("csrd", "msfd", "reld", "respd")}
PLAIN = Footprints()


def only(name: str, **options: Any) -> CRKD:
    """The method with one of its losses."""
    torch.manual_seed(0)
    made = build_method(MethodConfig("crkd", OFF | {name: options}), spec("camera", "radar"), spec("lidar", "camera"))
    assert isinstance(made, CRKD)
    return made


def losses(method: CRKD, student: BEVOutputs, teacher: BEVOutputs, context: DistillContext) -> dict[str, float]:
    found = method.losses(student, method.targets(teacher, context), context)
    return {name: float(loss.detach()) for name, loss in found.items()}


def box(*values: float) -> Tensor:
    """One box (1, 9): x, y, l, w, yaw, vx, vy."""
    x, y, length, width, yaw, vx, vy = values
    return torch.tensor([[x, y, 0, length, width, 1.5, yaw, vx, vy]])


def batch_of(rows: Tensor, frames: int = 1) -> Boxes:
    n = len(rows)
    return Boxes(rows, torch.zeros(n, dtype=torch.long), torch.zeros(n, dtype=torch.long), torch.ones(n))


def moving(per_frame: list[int], seed: int = 0) -> DistillContext:
    """A context whose boxes move, stand at range, and reach over the border."""
    context = make_context(per_frame, seed)
    g = torch.Generator().manual_seed(seed)
    b = context.boxes.boxes
    b[:, 7:9] = torch.randn(len(b), 2, generator=g) * torch.tensor([0.3, 1.0, 5.0])[torch.arange(len(b)) % 3, None]
    return context


# --- boxes that grow


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ((5, 0, 4, 2, 0, 0, 0), (0.5, 0.5)),  # near and at rest: the lower clip
        ((25, 0, 4, 2, 0, 0.5, -1), (4 * 0.5, 2 * 0.75)),
        ((20, 0, 4, 2, 0, 0, 5), (0.5, 2 * 0.5)),  # r1 itself is near
        ((0, -30, 4, 2, 0, 0.2, 0), (4 * 0.5, 2 * 0.5)),  # r2 itself is far
        ((40, 3, 12, 3, 0, -9, 0.5), (4.0, 3 * 0.75)),  # the upper clip
        ((25, 0, 4, 2, 0, math.nan, math.nan), (1.0, 0.5)),
        ((5, 0, 4, 2, 0, 0.25, 0.75), (0.5, 0.5)),
        ((5, 0, 4, 4, 0, 0.75, 0.8), (1.0, 2.0)),
    ],
)
def test_growth_by_hand(values: tuple[float, ...], wanted: tuple[float, float]) -> None:
    assert growth(box(*values), PLAIN)[0].tolist() == pytest.approx(wanted)


def test_growth_follows_the_velocity_of_the_frame_that_is_asked_for() -> None:
    across = box(5, 0, 4, 2, math.pi / 2, 0, 6)  # heading left, and driving there
    assert growth(across, PLAIN)[0].tolist() == pytest.approx([0.5, 1.0])
    assert growth(across, Footprints(velocity_frame="box"))[0].tolist() == pytest.approx([2.0, 0.5])
    back = box(5, 0, 4, 2, math.pi, -6, 0)
    assert growth(back, Footprints(velocity_frame="box"))[0].tolist() == pytest.approx([2.0, 0.5])


def test_lengths_are_options() -> None:
    options = Footprints(r1=5, r2=10, v1=1, v2=2, alpha=0.1, beta=0.2, least=0, most=0.7)
    assert growth(box(7, 0, 4, 2, 0, 1.5, 0), options)[0].tolist() == pytest.approx([0.7, 0.2])
    made = method_settings(MethodConfig("crkd", {"msfd": {"r1": 10, "r2": 15, "clip": [0.25, 2.0]}}))
    assert isinstance(made, CRKDConfig)
    assert made.msfd.footprints == Footprints(r1=10, r2=15, least=0.25, most=2.0)


BOX = st.tuples(
    st.floats(-14, 14), st.floats(-12, 12), st.floats(0.3, 12), st.floats(0.3, 4), st.floats(-4, 4), st.floats(-9, 9),
    st.floats(-9, 9),
)  # fmt: skip


@given(BOX)
@settings(deadline=None, max_examples=60)
def test_growth_is_within_its_clip_and_masks_grow_with_it(values: tuple[float, ...]) -> None:
    b = box(*values)
    grown = growth(b, PLAIN)
    assert ((grown >= 0.5) & (grown <= 4.0)).all()
    boxes = batch_of(b)
    small, large = (footprint_mask(boxes, GRID, 1, Footprints(shape)) for shape in ("box", "scaled_box"))
    hull = footprint_mask(boxes, GRID, 1, Footprints(geometry="axis_aligned_hull"))
    margin = footprint_mask(batch_of(scaled(b, PLAIN) - torch.tensor([0, 0, 0, 1e-3, 1e-3, 0, 0, 0, 0])), GRID, 1,
                            Footprints("box"))  # fmt: skip
    assert (small <= large).all()
    assert (margin <= hull).all()


# --- masks


def in_rectangle(x: float, y: float, b: list[float]) -> bool:
    """Whether a point lies on the inner side of all four edges of a box."""
    cx, cy, length, width, yaw = b[0], b[1], b[3], b[4], b[6]
    ex, ey = (math.cos(yaw), math.sin(yaw)), (-math.sin(yaw), math.cos(yaw))
    corners = [
        (cx + i * length / 2 * ex[0] + j * width / 2 * ey[0], cy + i * length / 2 * ex[1] + j * width / 2 * ey[1])
        for i, j in ((1, 1), (-1, 1), (-1, -1), (1, -1))
    ]
    sides = zip(corners, corners[1:] + corners[:1], strict=True)
    return all((x2 - x1) * (y - y1) - (y2 - y1) * (x - x1) >= 0 for (x1, y1), (x2, y2) in sides)


def slow_mask(context: DistillContext, options: Footprints) -> Tensor:
    out = torch.zeros(context.batch_size, GRID.H, GRID.W)
    b = context.boxes.boxes if options.shape == "box" else scaled(context.boxes.boxes, options)
    for one, frame in zip(b.tolist(), context.boxes.frame.tolist(), strict=True):
        for iy in range(GRID.H):
            for ix in range(GRID.W):
                x, y = GRID.x_min + (ix + 0.5) * GRID.cell, GRID.y_min + (iy + 0.5) * GRID.cell
                if in_rectangle(x, y, one):
                    out[frame, iy, ix] = 1
    return out


@pytest.mark.parametrize("shape", ["box", "scaled_box"])
def test_masks_hold_the_cells_whose_centre_lies_in_the_rotated_rectangle(shape: Any) -> None:
    context = moving([4, 0, 3])
    context.boxes.boxes[0, :2] = torch.tensor([GRID.x_max - 0.1, GRID.y_min + 0.1])  # half of it is beyond the map
    context.boxes.boxes[1, 0] = GRID.x_max + 30
    mask = footprint_mask(context.boxes, GRID, 3, Footprints(shape))
    wanted = slow_mask(context, Footprints(shape))
    assert torch.equal(mask, wanted)
    assert wanted[0].sum() > 3
    assert not mask[1].any()


def test_a_box_across_has_its_length_across() -> None:
    # 4.8 x 1.6 m around a corner of cells of 0.8 m: 6 x 2 cells.
    for yaw, size in ((0.0, (2, 6)), (math.pi / 2, (6, 2)), (-math.pi / 2, (6, 2)), (math.pi, (2, 6))):
        b = box(0, 1.6, 4.8, 1.6, yaw, 0, 0)
        for geometry in ("rotated", "axis_aligned_hull"):
            mask = footprint_mask(batch_of(b), GRID, 1, Footprints("box", geometry))[0]  # type: ignore[arg-type]
            assert (int(mask.any(1).sum()), int(mask.any(0).sum())) == size
            assert int(mask.sum()) == 12
            assert mask[:, 16 - size[1] // 2 : 16 + size[1] // 2].any(0).all()


def test_the_hull_of_a_box_at_45_degrees() -> None:
    b = box(0, 0, 4, 2, math.pi / 4, 0, 0)
    side = 6 / math.sqrt(2)
    assert hulls(b)[0].tolist() == pytest.approx([0, 0, 0, side, side, 1.5, 0, 0, 0])


def code_cells(b: list[float]) -> Tensor:
    """The public code's rule for one box, in its own frame: x to the right, y ahead, angles clockwise."""
    x, y, sx, sy, angle = -b[1], b[0], b[4], b[3], -b[6] - math.pi

    def corner(i: int, j: int) -> tuple[float, float]:
        u, v = i * sx / 2, j * sy / 2
        return x + u * math.cos(angle) + v * math.sin(angle), y - u * math.sin(angle) + v * math.cos(angle)

    right, low, left, high = corner(1, -1)[0], corner(-1, -1)[1], corner(-1, -1)[0], corner(-1, 1)[1]

    def cell(value: float, start: float, most: int) -> int:
        return min(max(int((value - start) / GRID.cell), 0), most - 1)

    xs = sorted(cell(v, -GRID.y_max, GRID.H) for v in (right, left))
    ys = sorted(cell(v, GRID.x_min, GRID.W) for v in (low, high))
    out = torch.zeros(GRID.H, GRID.W, dtype=torch.bool)
    for i in range(*xs):
        for j in range(*ys):
            out[GRID.H - 1 - i, j] = True
    return out


def test_the_geometry_of_the_code() -> None:
    b = make_boxes([12], seed=3).boxes.double()
    b[:3, :2] = torch.tensor([[-12.9, 9.7], [12.7, 0.0], [0.0, -9.5]])
    found = code_rectangles(b, GRID).view(-1, GRID.H, GRID.W)
    for one, mask in zip(b.tolist(), found, strict=True):
        assert torch.equal(mask, code_cells(one))
    assert found.any((1, 2)).sum() > 4


@pytest.mark.parametrize("degrees", [0, 30, 60, 90, 120, 180])
def test_masks_of_the_code_shrink_with_the_square_of_the_cosine(degrees: float) -> None:
    area = []
    g = torch.Generator().manual_seed(1)
    places = (torch.rand(400, 2, generator=g) - 0.5) * 4
    b = box(0, 0, 8.0, 5.6, math.radians(degrees), 0, 0).double().repeat(400, 1)
    b[:, :2] = places.double()
    for find in (code_rectangles, inside_boxes):
        area.append(float(find(b, GRID).double().sum()) / 400)
    assert area[1] == pytest.approx(70, rel=0.03)  # cells in 8.0 m x 5.6 m
    assert area[0] == pytest.approx(70 * math.cos(math.radians(degrees)) ** 2, abs=1.5)


def test_no_cell_of_the_last_row_and_column_for_the_code() -> None:
    b = box(0, 0, 60, 60, 0, 0, 0)
    mask = code_rectangles(b, GRID).view(GRID.H, GRID.W)
    # The code counts rows from the left of the vehicle on, which is the end of ours.
    assert int(mask.sum()) == (GRID.H - 1) * (GRID.W - 1)
    assert not mask[0].any()
    assert not mask[:, -1].any()
    assert footprint_mask(batch_of(b), GRID, 1, PLAIN).all()


def test_gaussians_of_grown_boxes() -> None:
    context = moving([3, 2])
    context.boxes.boxes[0, 0] = GRID.x_max + 0.1  # its centre is off the map
    context.boxes.boxes[1, 3:5] = 0.05
    wanted = torch.zeros(2, GRID.H, GRID.W)
    for one, frame in zip(scaled(context.boxes.boxes, PLAIN), context.boxes.frame.tolist(), strict=True):
        length, width = one[3] / GRID.cell, one[4] / GRID.cell
        radius = max(1, int(gaussian_radius(length[None], width[None], 0.1)))
        ix, iy = ((one[:2] - torch.tensor([GRID.x_min, GRID.y_min])) / GRID.cell).floor().int().tolist()
        if not (0 <= ix < GRID.W and 0 <= iy < GRID.H):
            continue
        for dy in range(-radius, radius + 1):
            for dx in range(-radius, radius + 1):
                if 0 <= ix + dx < GRID.W and 0 <= iy + dy < GRID.H:
                    height = math.exp(-(dx**2 + dy**2) / (2 * ((2 * radius + 1) / 6) ** 2))
                    at = (frame, iy + dy, ix + dx)
                    wanted[at] = max(float(wanted[at]), height)
    mask = footprint_mask(context.boxes, GRID, 2, Footprints("gaussian"))
    torch.testing.assert_close(mask, wanted)
    assert (mask == 1).sum() >= 3


# --- MSFD


def feature_pair(feature: str) -> tuple[BEVOutputs, BEVOutputs]:
    student, teacher = make_outputs(3, 1), make_outputs(3, 2)
    empty = torch.zeros(3, 1, GRID.H, GRID.W, dtype=torch.bool)
    empty[:, :, ::2, ::3] = True  # cells that the teacher saw nothing in
    teacher.features[feature] = teacher.feature(feature).masked_fill(empty, 0.0)
    teacher.features[feature][0, 2, 1::4] = torch.nan
    return student, teacher


@pytest.mark.parametrize("code", [False, True])
@pytest.mark.parametrize("mask", ["scaled_box", "box", "gaussian", "dense"])
@pytest.mark.parametrize(
    ("location", "camera", "feature"),
    [("fused", "gated", "low"), ("camera", "gated", "gated.camera"), ("camera", "ungated", "camera")],
)
def test_msfd_cell_by_cell(mask: Any, location: str, camera: str, feature: str, code: bool) -> None:
    switches = {"half_square": code, "over_batch": code}
    method = only("msfd", mask=mask, location=location, camera_feature=camera, **switches)
    context = moving([4, 0, 3])
    student, teacher = feature_pair(feature)
    s, t = student.feature(feature), teacher.feature(feature)
    if mask == "dense":
        weight = torch.ones(3, GRID.H, GRID.W)
    else:
        weight = footprint_mask(context.boxes, GRID, 3, Footprints(mask))
    total = count = 0.0
    for b in range(3):
        for iy in range(GRID.H):
            for ix in range(GRID.W):
                own, taught = s[b, :, iy, ix].tolist(), t[b, :, iy, ix].tolist()
                w = float(weight[b, iy, ix])
                if mask in ("box", "scaled_box") and all(v == 0 for v in taught):
                    w = 0.0
                squares = [0.0 if math.isnan(v) else (u - v) ** 2 for u, v in zip(own, taught, strict=True)]
                total += w * sum(squares) / len(squares)
                count += w
    wanted = total / count * (0.5 if code else 1)
    if code and mask in ("box", "scaled_box"):
        wanted /= 3
    assert losses(method, student, teacher, context) == pytest.approx({f"msfd_{location}": wanted}, rel=1e-4)


def test_msfd_by_hand() -> None:
    # One box of 2 x 2 cells (1.1 m grown by 0.5 m), a difference of 3 in one channel of six at one of them.
    context = DistillContext(GRID, 1, batch_of(box(0, 0, 1.1, 1.1, 0, 0, 0)), torch.tensor([True]))
    outputs = make_outputs(1, 1)
    other = make_outputs(1, 1)
    other.low[0, 4, 12, 15] += 3
    other.low[0, :, 0, 0] += 9  # outside of the box
    found = losses(only("msfd"), other, outputs, context)
    assert found == {"msfd_camera": 0, "msfd_fused": pytest.approx(9 / 6 / 4)}


def test_both_locations_share_cells_and_a_weight() -> None:
    method = only("msfd")
    assert set(method.taps()) == {"mask_cell", "mask_weight", "msfd_camera", "msfd_fused"}
    assert method.weights() == {"msfd_camera": 10.0, "msfd_fused": 10.0}
    assert method.student_features == {"gated.camera", "low"}
    stored = method.targets(make_outputs(2, 1), make_context([2, 2]))
    assert stored["msfd_fused"].values.shape == (len(stored["mask_cell"].values), LOW)


def test_values_that_are_no_numbers_can_be_stored() -> None:
    teacher = make_outputs(2, 1)
    teacher.low[:] = torch.nan
    stored = only("msfd").targets(teacher, make_context([2, 2]))["msfd_fused"].values
    assert (stored.half() == NOT_A_NUMBER).all()
    student = make_outputs(2, 3, grad=True)
    loss = only("msfd").losses(student, only("msfd").targets(teacher, make_context([2, 2])), make_context([2, 2]))
    loss["msfd_fused"].backward()
    assert loss["msfd_fused"] == 0
    assert student.low.grad is not None
    assert not student.low.grad.any()


# --- CSRD


@pytest.mark.parametrize("norm", ["l1", "l2"])
@pytest.mark.parametrize("pool", ["mean_paper", "mean_code", "max"])
def test_csrd_cell_by_cell(pool: str, norm: str) -> None:
    method, student, teacher = only("csrd", pool=pool, norm=norm), make_outputs(1, 1), make_outputs(1, 2)
    weight = method.activation[0].weight.detach()  # type: ignore[index]
    assert weight.shape == (1, MAPS["radar"], 1, 1)
    total = 0.0
    for iy in range(GRID.H):
        for ix in range(GRID.W):
            logits = [head.heatmap[0, :, iy, ix].tolist() for head in teacher.heads]
            score = [[1 / (1 + math.exp(-v)) for v in task] for task in logits]
            flat = [v for task in score for v in task]
            if pool == "mean_paper":
                heat = sum(flat) / 10
            elif pool == "max":
                heat = max(flat)
            else:
                heat = sum(1 / (1 + math.exp(-sum(task) / len(task))) for task in logits) / 6
            radar = student.feature("radar")[0, :, iy, ix]
            difference = max(0.0, float((weight.flatten() * radar).sum())) - heat
            total += abs(difference) if norm == "l1" else difference**2
    wanted = total / (GRID.H * GRID.W)
    assert losses(method, student, teacher, make_context([2])) == pytest.approx({"csrd": wanted}, rel=1e-4)


def test_pooling_by_hand() -> None:
    logits = torch.tensor([0.0, 2.0, -2.0]).view(1, 3, 1, 1)  # tasks of one class and of two
    one, high, low = 0.5, 1 / (1 + math.exp(-2)), 1 / (1 + math.exp(2))
    assert float(pooled_heat(logits, (1, 2), "mean_paper")) == pytest.approx((one + high + low) / 3)
    assert float(pooled_heat(logits, (1, 2), "max")) == pytest.approx(high)
    assert float(pooled_heat(logits, (1, 2), "mean_code")) == pytest.approx(0.5)
    assert float(
        pooled_heat(logits + torch.tensor([0, 0, 2.0]).view(1, 3, 1, 1), (1, 2), "mean_code")
    ) == pytest.approx((0.5 + 1 / (1 + math.exp(-1))) / 2)
    assert float(pooled_heat(logits - 40, (1, 2), "mean_code")) == pytest.approx(1e-4)  # clipped, as in the code
    assert float(pooled_scores(torch.tensor([0.2, 1.0, 0.4]).view(1, 3, 1, 1), (1, 2), "mean_code")) == pytest.approx(
        (0.2 + 0.7) / 2
    )


def test_the_heat_of_boxes() -> None:
    context = moving([3, 0, 2])
    context.boxes.boxes[1, 1] = GRID.y_min - 0.1
    context.boxes.labels[2] = LABEL_INDEX["tram"]  # no class of the head
    order = make_outputs(1).class_order
    heat = drawn_heat(context.boxes, GRID, 3, order, 0.1, 2)
    centre, _ = GRID.indices(context.boxes.boxes[:, :2])
    peaks = {
        (int(f), order.index(int(k)), int(c) // GRID.W, int(c) % GRID.W)
        for i, (f, k, c) in enumerate(zip(context.boxes.frame, context.boxes.labels, centre, strict=True))
        if i not in (1, 2)
    }
    assert {tuple(at) for at in torch.nonzero(heat == 1).tolist()} == peaks
    method, student = only("csrd", source="gt_heatmap"), make_outputs(3, 1)
    assert method.taps() == {}
    assert method.config.wanted().boxes
    own = method.activation(student.feature("radar"))
    wanted = (own - heat.mean(1, keepdim=True)).abs().mean()
    assert losses(method, student, make_outputs(3, 2), context) == pytest.approx({"csrd": float(wanted.detach())})


def test_the_radar_map_may_learn_the_lidar_map() -> None:
    method, student, teacher = only("csrd", source="lidar_feature"), make_outputs(2, 1), make_outputs(2, 2)
    assert isinstance(method.activation, nn.Conv2d)  # 5 channels here, 7 there
    wanted = (method.activation(student.feature("radar")) - teacher.feature("lidar")).abs().mean()
    assert losses(method, student, teacher, make_context([1, 1])) == pytest.approx({"csrd": float(wanted.detach())})
    same = replace(spec("radar"), features=spec("radar").features | {"radar": FeatureInfo(7)})
    made = build_method(MethodConfig("crkd", OFF | {"csrd": {"source": "lidar_feature"}}), same, spec("lidar"))
    assert not list(made.parameters())


def test_how_the_activation_starts() -> None:
    wide = replace(spec("radar"), features=spec("radar").features | {"radar": FeatureInfo(4096)})
    for start, deviation in (("fan_out", math.sqrt(2)), ("fan_in", math.sqrt(2 / 4096))):
        made = build_method(MethodConfig("crkd", OFF | {"csrd": {"start": start}}), wide, spec("lidar"))
        (weight,) = made.parameters()
        assert float(weight.detach().std()) == pytest.approx(deviation, rel=0.1)


# --- RelD


@pytest.mark.parametrize("cosine", [True, False])
def test_relations_pair_by_pair(cosine: bool) -> None:
    g = torch.Generator().manual_seed(0)
    teacher, student = torch.randn(2, 5, 3, 3, generator=g), torch.randn(2, 4, 3, 3, generator=g)
    total = 0.0
    for b in range(2):
        for i in range(9):
            for j in range(9):
                pair = []
                for maps in (teacher, student):
                    one, other = (maps[b].flatten(1)[:, k] for k in (i, j))
                    value = float(one @ other)
                    pair.append(value / float(one.norm() * other.norm()) if cosine else value)
                total += abs(pair[0] - pair[1])
    assert float(token_relation(teacher, student, cosine)) == pytest.approx(total / (2 * 81), rel=1e-3)


def test_resizing_by_hand() -> None:
    # Half the size: the mean of four cells; a map of 6 x 4 becomes square. The middle of 3 cells is the second.
    maps = torch.arange(24.0).view(1, 1, 4, 6)
    assert resized(maps, 2).flatten().tolist() == pytest.approx([4.0, 7.0, 16.0, 19.0])
    assert float(resized(maps[..., :3, :3], 1)) == 7.0


@pytest.mark.parametrize("over_batch", [True, False])
@pytest.mark.parametrize("cosine", [True, False])
@pytest.mark.parametrize("adapters", [True, False])
def test_reld_is_a_sum_over_sizes(adapters: bool, cosine: bool, over_batch: bool) -> None:
    method = only("reld", sizes=[8, 4, 2], adapters=adapters, cosine=cosine, over_batch=over_batch)
    student, teacher = make_outputs(3, 1), make_outputs(3, 2)
    total = 0.0
    for size in (8, 4, 2):
        maps = [F.interpolate(o.low, (size, size), mode="bilinear", align_corners=False) for o in (teacher, student)]
        if adapters:
            first, _, last = method.adapters[str(size)]  # type: ignore[misc]
            maps[1] = last(F.relu(first(maps[1])))
            assert (first.kernel_size, last.kernel_size) == ((3, 3), (1, 1))
        t, s = (m.flatten(2) for m in maps)
        if cosine:
            t, s = F.normalize(t, dim=1), F.normalize(s, dim=1)
        difference = torch.einsum("bci,bcj->bij", s, s) - torch.einsum("bci,bcj->bij", t, t)
        total += float(difference.abs().mean())
    wanted = total / 3 if over_batch else total
    assert losses(method, student, teacher, make_context([1, 1, 1])) == pytest.approx({"reld": wanted}, rel=1e-3)
    stored = method.targets(teacher, make_context([1, 1, 1]))
    assert stored["reld_4"].values.shape == (3, LOW, 4, 4)


def test_cosines_do_not_see_the_size_of_features_and_products_do() -> None:
    student, teacher = make_outputs(1, 1), make_outputs(1, 1)
    teacher.features["low"] = teacher.low * 3
    for cosine, same in ((True, True), (False, False)):
        found = losses(only("reld", sizes=[8], adapters=False, cosine=cosine), student, teacher, make_context([1]))
        assert (found["reld"] < 1e-3) == same


# --- RespD


def slow_response(student: BEVOutputs, teacher: BEVOutputs, weights: list[float], least: float) -> tuple[float, float]:
    def score(logit: float) -> float:
        return min(max(1 / (1 + math.exp(-logit)), 1e-4), 1 - 1e-4)

    heatmap = boxes = 0.0
    first = 0
    for own, taught in zip(student.heads, teacher.heads, strict=True):
        k = own.heatmap.shape[1]
        p_s = [[score(v) for v in own.heatmap[:, c].flatten().tolist()] for c in range(k)]
        p_t = [[score(v) for v in taught.heatmap[:, c].flatten().tolist()] for c in range(k)]
        w = weights[first : first + k]
        first += k
        n = max(1, sum(p > 0.3 for row in p_t for p in row))
        for c in range(k):
            for s, t in zip(p_s[c], p_t[c], strict=True):
                heatmap += w[c] * -(t * math.log(s) + (1 - t) * math.log(1 - s)) * (s - t) ** 2 / n
        q = [sum(column) for column in zip(*p_t, strict=True)]
        threshold = 0.1
        while not any(v > threshold for v in q) and threshold - 0.01 > least - 0.005:
            threshold -= 0.01
        chosen = [i for i, v in enumerate(q) if v > threshold]
        names = ("reg", "height", "dim", "rot", "vel")
        maps = [torch.cat([o.regression[n] for n in names], 1).movedim(1, 0).flatten(1) for o in (own, taught)]
        for i in chosen:
            weighed = sum(w[c] * p_t[c][i] for c in range(k))
            for r in range(10):
                d = abs(float(maps[0][r, i] - maps[1][r, i]))
                boxes += weighed * (0.5 * d * d if d < 1 else d - 0.5) * 40 / (10 * len(chosen))
    return heatmap, boxes


@pytest.mark.parametrize(
    ("options", "weights"),
    [
        ({"weights": "vanilla"}, [1.0] * 10),
        ({}, [2, 2, 2, 2, 2, 1, 2, 2, 2, 1]),
        ({"per_class": False}, [2, 2, 2, 2, 2, 1, 2, 2, 1, 1]),
        ({"weights": "static", "per_class": False}, [1, 1, 1, 1, 1, 2, 1, 1, 2, 2]),
        ({"weights": [3, 0, 1, 2, 0.5, 1]}, [3, 0, 0, 1, 1, 2, 0.5, 0.5, 1, 1]),
    ],
)
def test_respd_cell_by_cell(options: dict[str, Any], weights: list[float]) -> None:
    student, teacher = make_outputs(2, 1), make_outputs(2, 2)
    for head, shift in zip(teacher.heads, (2, 3, 5, 4, 3, 3), strict=True):
        head.heatmap -= shift
    wanted = slow_response(student, teacher, weights, 0.01)
    found = losses(only("respd", **options), student, teacher, make_context([2, 1]))
    assert found == pytest.approx({"respd_heatmap": wanted[0], "respd_box": wanted[1]}, rel=1e-4)


@pytest.mark.parametrize("least", [0.01, 0.0, 0.05])
def test_where_the_teacher_finds_nothing_likely_the_threshold_is_lowered(least: float) -> None:
    student, teacher = make_outputs(2, 1), make_outputs(2, 2)
    for head, top in zip(teacher.heads, (-2.5, -2.9, -3.9, -6.0, -20.0, 1.0), strict=True):
        head.heatmap = head.heatmap.clamp(max=3) - 3 + top
    teacher.heads[5].heatmap[1] -= 30  # one frame alone: the other one decides
    wanted = slow_response(student, teacher, [1.0] * 10, least)
    found = losses(only("respd", weights="vanilla", least=least), student, teacher, make_context([2, 1]))
    assert found == pytest.approx({"respd_heatmap": wanted[0], "respd_box": wanted[1]}, rel=1e-4)


def test_thresholds_by_hand() -> None:
    top = torch.tensor([0.5, 0.1, 0.085, 0.0101, 0.01, 0.001])
    assert lowered(top, 0.1, 0.01).tolist() == pytest.approx([0.1, 0.09, 0.08, 0.01, math.inf, math.inf], abs=1e-6)
    assert lowered(top, 0.1, 0.0)[-1] == pytest.approx(0, abs=1e-6)
    assert lowered(top, 0.1, 0.1).tolist() == pytest.approx([0.1] + [math.inf] * 5)
    assert lowered(top, 0.1, 0.2).tolist() == pytest.approx([0.1] + [math.inf] * 5)


def test_an_exact_student_has_no_loss_of_response_and_features() -> None:
    outputs, context = make_outputs(2, 1), moving([3, 2])
    for name in ("msfd", "respd"):
        assert all(v == pytest.approx(0, abs=1e-6) for v in losses(only(name), outputs, outputs, context).values())
    assert losses(only("reld", adapters=False), outputs, outputs, context)["reld"] < 1e-5


@pytest.mark.parametrize(
    ("tasks", "config", "wanted"),
    [
        ([["car"], ["barrier"]], RespdConfig(), [2, 1]),
        ([["car", "barrier", "pedestrian"]], RespdConfig(), [2, 1, 2]),
        ([["car", "barrier", "pedestrian"]], RespdConfig(per_class=False), [1, 1, 1]),
        ([["car"], ["pedestrian"], ["cyclist"]], RespdConfig(per_class=False), [2, 2, 2]),
        ([["vehicle", "pedestrian"], ["sign"]], RespdConfig(weights="static"), [1, 1, 2]),
        ([["bus", "car"], ["traffic_cone"]], RespdConfig(weights=(0.5, 3.0)), [0.5, 0.5, 3]),
    ],
)
def test_weights_of_other_tasks(tasks: list[list[str]], config: RespdConfig, wanted: list[float]) -> None:
    order = [LABEL_INDEX[name] for task in tasks for name in task]
    assert class_weights(config, order, [len(task) for task in tasks]) == wanted


def test_published_weights_of_tasks() -> None:
    for kind, wanted in (("dynamic", [2, 2, 2, 1, 2, 1]), ("static", [1, 1, 1, 2, 1, 2]), ("vanilla", [1] * 6)):
        config = RespdConfig(weights=kind, per_class=False)  # type: ignore[arg-type]
        assert class_weights(config, range(10), TASKS) == [
            w for w, k in zip(wanted, TASKS, strict=True) for _ in range(k)
        ]


# --- the method


def test_published_weights_and_what_is_tapped() -> None:
    made = build_method(MethodConfig("crkd"), spec("camera", "radar"), spec("lidar", "camera"))
    assert isinstance(made, CRKD)
    assert made.weights() == {
        "csrd": 100, "msfd_camera": 10, "msfd_fused": 10, "reld": 0.25, "respd_heatmap": 1, "respd_box": 1,
    }  # fmt: skip
    assert made.wanted.features == {"gated.camera", "low", "heads"}
    assert made.student_features == {"radar", "gated.camera", "low", "heads"}
    assert set(made.adapters) == {"32", "16", "8", "4"}


def test_rows_that_differ_in_losses_share_columns() -> None:
    def columns(options: dict[str, Any]) -> set[str]:
        return set(method_settings(MethodConfig("crkd", options)).cached().columns)

    whole = columns({"msfd": {"location": "camera+fused"}})

    same: list[dict[str, Any]] = [
        {},
        {"csrd": {"enabled": False}},
        {"csrd": {"pool": "max", "norm": "l2"}},
        {"weights": {"msfd": 0, "reld": 0}},
        {"msfd": {"location": "fused"}},
        {"reld": {"adapters": False, "cosine": False}},
        {"respd": {"weights": "static"}},
        {"reld": {"sizes": [16, 8]}},
    ]
    assert all(columns(options) <= whole for options in same)
    other: list[dict[str, Any]] = [
        {"msfd": {"mask": "dense"}},
        {"msfd": {"camera_feature": "ungated"}},
        {"msfd": {"r1": 10}},
        {"respd": {"threshold": 0.2}},
    ]
    assert not any(columns(options) <= whole for options in other)


@pytest.mark.parametrize("over_batch", [False, True])
def test_parts_of_a_batch_teach_what_the_whole_does(over_batch: bool) -> None:
    parts = {name: {"over_batch": over_batch} for name in ("msfd", "reld")}
    torch.manual_seed(0)
    method = build_method(MethodConfig("crkd", {**parts}), spec("camera", "radar"), spec("lidar", "camera"))
    students, teachers = [make_outputs(2, k) for k in (1, 2)], [make_outputs(2, k) for k in (3, 4)]
    contexts = [moving([5, 1], 1), moving([0, 2], 2)]
    whole = replace(contexts[0], batch_size=4, labelled=torch.ones(4, dtype=torch.bool))
    whole.boxes = Boxes.cat([contexts[0].boxes, replace(contexts[1].boxes, frame=contexts[1].boxes.frame + 2)])
    at_once = losses(method, joined(students), joined(teachers), whole)  # type: ignore[arg-type]
    counts, found = PartCounts(2), []
    todo = list(zip(students, teachers, contexts, strict=True))
    for one in todo:
        with counts.counted():
            losses(method, *one)  # type: ignore[arg-type]
    for one in todo:
        with counts.shared():
            found.append(losses(method, *one))  # type: ignore[arg-type]
    for name, value in at_once.items():
        assert (found[0][name] + found[1][name]) / 2 == pytest.approx(value, rel=1e-4), name


def joined(parts: list[BEVOutputs]) -> BEVOutputs:
    """Outputs of the frames of several parts."""
    features = {name: torch.cat([part.feature(name) for part in parts]) for name in ("low", *MAPS)}
    heads = [
        TaskOutput(
            torch.cat([task.heatmap for task in tasks]),
            {name: torch.cat([task.regression[name] for task in tasks]) for name in tasks[0].regression},
        )
        for tasks in zip(*(part.heads for part in parts), strict=True)
    ]
    return BEVOutputs(features, CenterOutput(heads, parts[0].class_order))


def test_no_box_at_all_teaches_no_feature() -> None:
    student, context = make_outputs(2, 1, grad=True), make_context([0, 0], labelled=[True, False])
    method = only("msfd")
    found = method.losses(student, method.targets(make_outputs(2, 2), context), context)
    torch.stack(list(found.values())).sum().backward()
    for name in ("low", "gated.camera"):
        assert found[f"msfd_{'fused' if name == 'low' else 'camera'}"] == 0
        assert not student.feature(name).grad.any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": {"csrd": 0, "msfd": 0, "reld": 0, "respd": 0}}, "switched off"),
        ({"csrd": {"pool": "median"}}, "pool"),
        ({"msfd": {"r1": 40}}, "r1"),
        ({"msfd": {"clip": [4, 0.5]}}, "no range"),
        ({"reld": {"sizes": [4, 4]}}, "twice"),
        ({"reld": {"sizes": []}}, "sizes"),
        ({"respd": {"weights": "fast"}}, "weights"),
    ],
)
def test_bad_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_method(MethodConfig("crkd", options), spec("camera", "radar"), spec("lidar", "camera"))


def test_networks_that_do_not_fit_are_refused() -> None:
    student, teacher = spec("camera", "radar"), spec("lidar", "camera")

    def build(own: Any, taught: Any, **options: Any) -> None:
        build_method(MethodConfig("crkd", OFF | options), own, taught)

    with pytest.raises(ConfigError, match="'low' cell by cell: student 6 channels at stride 1, teacher 64"):
        build(student, spec("lidar", low=64), msfd={"location": "fused"})
    no_gate = replace(student, features={n: f for n, f in student.features.items() if n != "gated.camera"})
    with pytest.raises(ConfigError, match=r"no feature 'gated\.camera'"):
        build(no_gate, teacher, msfd={})
    with pytest.raises(ConfigError, match="same dense head"):
        build(student, replace(teacher, regression_maps=60), respd={})
    with pytest.raises(ConfigError, match="same classes"):
        build(student, replace(teacher, classes=3), csrd={})
    method, outputs, context = only("respd", weights=[1, 2]), make_outputs(1, 1), make_context([1])
    with pytest.raises(ConfigError, match=r"respd\.weights has 2 numbers, the head 6 tasks"):
        method.losses(outputs, method.targets(outputs, context), context)
