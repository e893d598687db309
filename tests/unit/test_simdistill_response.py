"""SimDistill's response loss: both terms against slow loops written here, the gradient at a missed object, paddings."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from distill_data import GRID, HEAD, TASKS, make_boxes, make_outputs, spec
from torch import Tensor

from bevkd.config import MethodConfig
from bevkd.distill import DistillContext, build_method
from bevkd.distill.centres import centre_regression, find_centres, first_cell
from bevkd.distill.methods.simdistill import SimDistill
from bevkd.distill.quality_response import box_errors, box_response, class_response
from bevkd.models.boxcode import decode_cells
from bevkd.models.heads.center_settings import CenterSettings
from bevkd.models.ops.rotated import iou_3d
from bevkd.models.outputs import BEVOutputs
from bevkd.models.targets import TargetAssigner

WEIGHTS = [1.0] * 8 + [0.2] * 2


def score(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))


def focal(z: float, q: float) -> float:
    """BCE of a logit against a score, times the squared difference of scores."""
    p = score(z)
    return -(q * math.log(p) + (1 - q) * math.log(1 - p)) * (p - q) ** 2


def twice(z: float) -> float:
    return min(max(score(z), 1e-4), 1 - 1e-4)


# --- classes


@pytest.mark.parametrize("double", [False, True])
def test_classes_cell_by_cell(double: bool) -> None:
    student, teacher = make_outputs(2, 1).heatmaps(), make_outputs(2, 2).heatmaps() - 1
    total = 0.0
    for b in range(2):
        for k in range(10):
            pairs = list(zip(student[b, k].flatten().tolist(), teacher[b, k].flatten().tolist(), strict=True))
            if double:
                pairs = [(twice(z), twice(t)) for z, t in pairs]
            count = sum(score(t) > 0.1 for _, t in pairs)
            total += sum(focal(z, score(t)) for z, t in pairs) / max(1, count)
    assert float(class_response(student, teacher, TASKS, double)) == pytest.approx(0.25 * total, rel=1e-5)


def test_mixed_counts_are_those_of_a_reshaped_map_with_x_before_y() -> None:
    student, teacher = make_outputs(2, 1).heatmaps(), make_outputs(2, 2).heatmaps() - 1
    total, start = 0.0, 0
    for n in TASKS:
        for b in range(2):
            # As the public code has them: [class, x, y], taken as n rows of (cells / n, n).
            flat = [m[b, start : start + n].transpose(1, 2).reshape(-1).tolist() for m in (student, teacher)]
            area = GRID.H * GRID.W
            for row in range(n):
                for column in range(n):
                    members = [row * area + i for i in range(column, area, n)]
                    count = sum(score(flat[1][i]) > 0.1 for i in members)
                    total += sum(focal(flat[0][i], score(flat[1][i])) for i in members) / max(1, count)
        start += n
    found = class_response(student, teacher, TASKS, mixed_counts=True)
    assert float(found) == pytest.approx(0.25 * total, rel=1e-5)
    assert float(found) != pytest.approx(float(class_response(student, teacher, TASKS)), rel=1e-2)


def missed(double: bool, logit: float, taught: float, elsewhere: float | None = None) -> tuple[float, float, Tensor]:
    """One object that the student misses on a map of the published size: loss, largest gradient, gradient there."""
    student = torch.full((1, 1, 180, 180), logit, requires_grad=True)
    teacher = torch.full((1, 1, 180, 180), logit if elsewhere is None else elsewhere)
    teacher[0, 0, 90, 40] = taught
    loss = class_response(student, teacher, [1], double)
    loss.backward()
    assert student.grad is not None
    return float(loss.detach()), float(student.grad.abs().max()), student.grad[0, 0, 90, 40]


def test_a_missed_object_pulls_the_logit_up() -> None:
    # p = 1e-5 and q = 0.99: 0.25 q^2 (q ln 1e5 + ...) by hand, and about 0.25 q^3 of gradient.
    loss, largest, there = missed(False, math.log(1e-5), math.log(99))
    assert loss == pytest.approx(2.8, abs=0.01)
    assert largest == pytest.approx(0.24, abs=0.005)
    assert float(there) == -largest
    for logit in (-12.0, -7.0, -4.6, -2.19):
        loss, largest, there = missed(False, logit, 2.0, elsewhere=-7.0)
        assert float(there) < -1e-3


def test_a_second_sigmoid_leaves_next_to_nothing() -> None:
    # Scores taken for logits: q' lies in [0.5, 0.73], every cell is counted.
    p, q = twice(-6.9), score(twice(math.log(99)))
    loss, largest, there = missed(True, -6.9, math.log(99))
    assert loss == pytest.approx(0.25 * focal(p, q) / 180**2, rel=1e-3)
    assert loss < 1.2e-6
    assert 0 < largest < 3e-9
    assert float(there) == -largest


# --- boxes


def error(own: list[float], taught: list[float], sine: bool = False) -> float:
    total = 0.0
    for d in range(10):
        difference = own[d] - taught[d]
        if sine and d == 6:
            difference = math.sin(own[d]) * math.cos(taught[d]) - math.cos(own[d]) * math.sin(taught[d])
        x = abs(WEIGHTS[d] * difference)
        total += 4.5 * x * x if x < 1 / 9 else x - 1 / 18
    return total


def cells(outputs: BEVOutputs, task: int, b: int, iy: int, ix: int) -> list[float]:
    found: list[float] = outputs.heads[task].joined[b, :, iy, ix].tolist()
    return found


def case(per_frame: list[int], seed: int = 0) -> tuple[BEVOutputs, BEVOutputs, DistillContext]:
    """Networks and boxes; one box is off the map, one of a class without a head, velocities partly unknown."""
    frames = len(per_frame)
    boxes = make_boxes(per_frame, seed)
    if len(boxes) > 3:
        boxes.boxes[0, 0] = GRID.x_max + 0.1
        boxes.labels[1] = 11
        boxes.boxes[2, 7:] = math.nan
    context = DistillContext(GRID, frames, boxes, torch.ones(frames, dtype=torch.bool))
    return make_outputs(frames, 1, grad=True), make_outputs(frames, 2), context


def objects(context: DistillContext) -> list[tuple[int, int, int, int, int]]:
    """Box, frame, task, row, column of all boxes that count, by hand."""
    owners, found = [t for t, n in enumerate(TASKS) for _ in range(n)], []
    boxes = context.boxes
    for k, (row, label, b) in enumerate(
        zip(boxes.boxes.tolist(), boxes.labels.tolist(), boxes.frame.tolist(), strict=True)
    ):
        ix, iy = math.floor((row[0] - GRID.x_min) / GRID.cell), math.floor((row[1] - GRID.y_min) / GRID.cell)
        if 0 <= ix < GRID.W and 0 <= iy < GRID.H and label < 10:
            found.append((k, b, owners[label], iy, ix))
    return found


def boxes_by_hand(
    student: BEVOutputs,
    teacher: BEVOutputs,
    context: DistillContext,
    sine: bool = False,
    quality: list[float] | None = None,
    slots: int = 0,
) -> float:
    total = 0.0
    for b in range(context.batch_size):
        for t in range(len(TASKS)):
            members = [(k, iy, ix) for k, frame, task, iy, ix in objects(context) if (frame, task) == (b, t)]
            errors = []
            for k, iy, ix in members:
                one = error(cells(student, t, b, iy, ix), cells(teacher, t, b, iy, ix), sine)
                errors.append(one * (quality[k] if quality else 1))
            if slots:
                corner = error(cells(student, t, b, 0, 0), cells(teacher, t, b, 0, 0), sine)
                total += (sum(errors) + (slots - len(errors)) * corner) / slots
            elif errors:
                total += sum(errors) / len(errors)
    return 0.25 * total


def found(student: BEVOutputs, teacher: BEVOutputs, context: DistillContext, **options: Any) -> float:
    centres = find_centres(student, context.boxes, context.grid)
    own, taught = (centre_regression(o, centres) for o in (student, teacher))
    return float(box_response(own, taught, centres, context.batch_size, len(TASKS), **options).detach())


@pytest.mark.parametrize("sine", [False, True])
@pytest.mark.parametrize("per_frame", [[5, 0, 7], [20], [0, 0]])
def test_boxes_by_slow_loops(per_frame: list[int], sine: bool) -> None:
    student, teacher, context = case(per_frame)
    wanted = boxes_by_hand(student, teacher, context, sine)
    assert found(student, teacher, context, sine_difference=sine) == pytest.approx(wanted, rel=1e-5)
    assert (wanted > 0) == any(per_frame)


def test_padding_counts_where_it_is_asked_for_alone() -> None:
    student, teacher, context = case([5, 0, 7])
    shape = (len(TASKS), -1)
    corner = (first_cell(student).unflatten(1, shape), first_cell(teacher).unflatten(1, shape))
    wanted = boxes_by_hand(student, teacher, context, slots=500)
    assert found(student, teacher, context, padding=corner) == pytest.approx(wanted, rel=1e-5)
    before = found(student, teacher, context)
    # Boxes of zeros far away, as those that pad a batch, are no objects.
    padded = make_boxes([5 + 3, 4, 7 + 2])
    kept = torch.tensor([*range(5), *range(12, 19)])
    padded.boxes[:] = torch.tensor([1e4, -1e4, 0, 0, 0, 0, 0, 0, 0])
    for name in ("boxes", "labels"):
        getattr(padded, name)[kept] = getattr(context.boxes, name)
    assert found(student, teacher, replace(context, boxes=padded)) == pytest.approx(before, rel=1e-6)
    student.heads[0].regression["reg"].detach()[:, :, 0, 0] += 7
    assert found(student, teacher, context) == pytest.approx(before, rel=1e-6)


def test_errors_of_one_box_by_hand() -> None:
    own = torch.zeros(1, 11)
    own[0, 0], own[0, 3], own[0, 9], own[0, 10] = 0.05, -1.0, 10.0, 9.0  # the last is no part of the box
    wanted = 0.5 * 0.05**2 * 9 + (1 - 1 / 18) + (2 - 1 / 18)
    assert float(box_errors(own, torch.zeros(1, 11))) == pytest.approx(wanted, rel=1e-6)


def test_a_student_gone_astray_off_the_map_has_no_gradient() -> None:
    student, teacher, context = case([4])
    centres = find_centres(student, context.boxes, context.grid)
    assert centres.valid.tolist() == [False, False, True, True]
    own = centre_regression(student, centres).detach()
    own[0] = torch.inf
    own.requires_grad_()
    box_response(own, centre_regression(teacher, centres), centres, 1, len(TASKS)).backward()
    assert own.grad is not None
    assert torch.isfinite(own.grad).all()
    assert not own.grad[:2].any()
    assert own.grad[2:, :10].any()


def test_centres_are_where_the_head_has_its_peaks() -> None:
    student, _, context = case([9, 6])
    assigned = TargetAssigner(CenterSettings(targets="gaussian", tasks=HEAD), GRID)(context.boxes, 2)
    centres = find_centres(student, context.boxes, GRID)
    for task, target in enumerate(assigned):
        mine = centres.valid & (centres.task == task)
        assert set((centres.frame * GRID.H * GRID.W + centres.cell)[mine].tolist()) == set(target.positive.tolist())


# --- as the method has them


def method(**options: Any) -> SimDistill:
    off = {part: {"enabled": False} for part in ("imd", "cmd", "mmd_f")}
    made = build_method(MethodConfig("simdistill", off | {"mmd_p": options}), spec("camera"), spec("lidar", "camera"))
    assert isinstance(made, SimDistill)
    return made


def losses(made: SimDistill, student: BEVOutputs, teacher: BEVOutputs, context: DistillContext) -> dict[str, float]:
    named = made.losses(student, made.targets(teacher, context), context)
    return {name: float(loss.detach()) for name, loss in named.items()}


def test_quality_by_score_and_by_overlap() -> None:
    student, teacher, context = case([6, 5])
    at = [(0.0, torch.zeros(9))] * 11
    for k, b, t, iy, ix in objects(context):
        slot = int(context.boxes.labels[k]) - sum(TASKS[:t])
        code = torch.tensor(cells(teacher, t, b, iy, ix)[:10])[None]
        decoded = decode_cells(code, torch.tensor([iy * GRID.W + ix]), GRID)
        at[k] = (float(torch.sigmoid(teacher.heads[t].heatmap[b, slot, iy, ix])), decoded[0])
    scores = [one for one, _ in at]
    overlaps = iou_3d(torch.stack([box for _, box in at]), context.boxes.boxes).tolist()
    assert max(overlaps) > 0
    for quality, values in (("teacher_score", scores), ("iou", overlaps)):
        wanted = boxes_by_hand(student, teacher, context, quality=values)
        assert losses(method(quality=quality), student, teacher, context)["mmd_p_box"] == pytest.approx(
            wanted, rel=1e-4
        )


def test_a_perfect_teacher_counts_in_full() -> None:
    student, teacher, context = case([1])
    (_, b, t, iy, ix), box = objects(context)[0], context.boxes.boxes[0].tolist()
    code = [(box[0] - GRID.x_min) / GRID.cell - ix, (box[1] - GRID.y_min) / GRID.cell - iy, box[2]]
    code += [*(math.log(v) for v in box[3:6]), math.sin(box[6]), math.cos(box[6]), 0.0, 0.0]
    at = 0
    for name in ("reg", "height", "dim", "rot", "vel"):
        maps = teacher.heads[t].regression[name]
        maps[b, :, iy, ix] = torch.tensor(code[at : at + maps.shape[1]])
        at += maps.shape[1]
    plain = losses(method(), student, teacher, context)
    assert losses(method(quality="iou"), student, teacher, context) == pytest.approx(plain, rel=1e-4)


def test_frames_are_summed_or_a_mean_times_a_number() -> None:
    student, teacher, context = case([5, 0, 7])
    whole = losses(method(), student, teacher, context)
    for frames in (1, 3, 0.5):
        mean = losses(method(frames=frames), student, teacher, context)
        assert mean == pytest.approx({name: value * frames / 3 for name, value in whole.items()}, rel=1e-5)


def test_switches_of_the_code() -> None:
    student, teacher, context = case([5, 0, 7])
    plain = losses(method(), student, teacher, context)
    changed = {
        "double_sigmoid": "mmd_p_cls",
        "mixed_counts": "mmd_p_cls",
        "padded_boxes": "mmd_p_box",
        "sine_difference": "mmd_p_box",
    }
    for switch, name in changed.items():
        code = losses(method(**{switch: True}), student, teacher, context)
        assert code[name] != pytest.approx(plain[name], rel=1e-3)
        assert {n: v for n, v in code.items() if n != name} == {n: v for n, v in plain.items() if n != name}
    assert "first_cell" in method(padded_boxes=True).taps()
