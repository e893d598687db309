from __future__ import annotations

import time
from dataclasses import replace

import pytest
import torch
from models_batch import make_boxes, model_config

from bevkd.config.schema import ModelConfig
from bevkd.models.boxcode import encode
from bevkd.models.decode import decode
from bevkd.models.heads.center_settings import CenterDecodeSettings, CenterSettings
from bevkd.models.outputs import REGRESSION, CenterOutput, TaskOutput
from bevkd.models.tasks import class_order


def config(**settings: object) -> ModelConfig:
    base = model_config("lidar_pillar")
    return replace(base, head=CenterSettings(), decode=replace(CenterDecodeSettings(), **settings))


def blank(model: ModelConfig, frames: int) -> CenterOutput:
    grid = model.grid.build()
    heads = [
        TaskOutput(
            torch.full((frames, len(task), grid.H, grid.W), -9.0),
            {name: torch.zeros(frames, width, grid.H, grid.W) for name, width in REGRESSION},
        )
        for task in model.head.tasks
    ]
    return CenterOutput(heads, class_order(model.head.tasks))


def put(
    outputs: CenterOutput, model: ModelConfig, box: torch.Tensor, label: int, frame: int, score: float, iou: float = 1
):  # type: ignore[no-untyped-def]
    """Write one box into the maps, at its cell."""
    grid = model.grid.build()
    uv = grid.to_cells(box[:2])[None]
    ix, iy = (int(k) for k in uv[0].floor())
    position = outputs.class_order.index(label)
    for task in outputs.tasks:
        if position < task.heatmap.shape[1]:
            break
        position -= task.heatmap.shape[1]
    task.heatmap[frame, position, iy, ix] = torch.logit(torch.tensor(score))
    code = encode(box[None], uv, torch.tensor([ix]), torch.tensor([iy]))[0]
    parts = dict(zip(("reg", "height", "dim", "rot", "vel"), code.split([2, 1, 3, 2, 2]), strict=True))
    for name, values in (parts | {"iou": torch.tensor([iou])}).items():
        task.regression[name][frame, :, iy, ix] = values


def box_at(x: float, y: float) -> torch.Tensor:
    return torch.tensor([x, y, 0.8, 4.6, 1.9, 1.7, 0.3, 1.0, 2.0])


def test_boxes_come_back_sorted_by_frame_and_score() -> None:
    model, frames = config(), 3
    boxes = make_boxes(frames, model.grid.reach)
    outputs = blank(model, frames)
    scores = torch.linspace(0.95, 0.3, len(boxes))
    order = torch.randperm(len(boxes), generator=torch.Generator().manual_seed(0))
    for i in order.tolist():
        put(outputs, model, boxes.boxes[i], int(boxes.labels[i]), int(boxes.frame[i]), float(scores[i]))
    found = decode(outputs, model)
    assert found.frame.tolist() == boxes.frame.tolist()
    assert found.labels.tolist() == boxes.labels.tolist()
    torch.testing.assert_close(found.scores, scores, atol=1e-5, rtol=0)
    torch.testing.assert_close(found.boxes, boxes.boxes, atol=2e-4, rtol=0)


def test_nms_ranks_with_the_predicted_iou_and_reports_plain_heat() -> None:
    model = config()
    outputs = blank(model, 1)
    put(outputs, model, box_at(0.1, 0.1), 0, 0, 0.8, iou=-0.9)  # rank 0.8^0.35 * 0.05^0.65
    put(outputs, model, box_at(0.9, 0.1), 0, 0, 0.5, iou=0.9)
    found = decode(outputs, model)
    assert found.scores.tolist() == pytest.approx([0.5], abs=1e-5)
    by_heat = decode(outputs, config(iou_power=0.0))
    assert by_heat.scores.tolist() == pytest.approx([0.8], abs=1e-5)
    assert len(decode(outputs, config(nms_iou=0.9))) == 2


def test_nms_ignores_the_class_inside_a_task_but_not_across_tasks() -> None:
    model = config()
    outputs = blank(model, 1)
    put(outputs, model, box_at(0.1, 0.1), 1, 0, 0.8)  # truck
    put(outputs, model, box_at(0.9, 0.1), 2, 0, 0.7)  # construction vehicle: the same task
    put(outputs, model, box_at(0.1, 0.1), 0, 0, 0.6)  # car: another task
    assert decode(outputs, model).labels.tolist() == [1, 0]


def test_limits() -> None:
    model = config(score_threshold=0.3)
    outputs = blank(model, 2)
    put(outputs, model, box_at(0.1, 0.1), 0, 0, 0.29)
    assert len(decode(outputs, model)) == 0
    for k in range(8):
        put(outputs, model, box_at(-20.0, -24.0 + 6 * k), 0, 1, 0.9 - 0.05 * k)
        put(outputs, model, box_at(0.0, -24.0 + 6 * k), 8, 1, 0.85 - 0.05 * k)
    assert len(decode(outputs, model)) == 16
    three = decode(outputs, config(score_threshold=0.3, per_task=3))
    assert sorted(three.labels.tolist()) == [0, 0, 0, 8, 8, 8]
    best = decode(outputs, config(score_threshold=0.3, max_boxes=5))
    assert best.scores.tolist() == pytest.approx([0.9, 0.85, 0.85, 0.8, 0.8], abs=1e-4)
    assert len(decode(outputs, config(score_threshold=0.3, top_k=2))) == 4
    near = decode(outputs, config(score_threshold=0.3, centre_limit=19.0))
    assert set(near.labels.tolist()) == {8}


def test_circle_nms() -> None:
    outputs = blank(config(), 1)
    for k, y in enumerate((0.1, 2.2, 4.3)):
        put(outputs, config(), box_at(0.1, y), 0, 0, 0.9 - 0.1 * k)
    radii = (2.2,) + (0.1,) * 9
    found = decode(outputs, config(nms="circle", circle_radius=radii))
    assert found.boxes[:, 1].tolist() == pytest.approx([0.1, 4.3], abs=1e-4)


def test_a_noisy_frame_decodes_in_fractions_of_a_second() -> None:
    """An untrained head at the default scale is the worst case: every candidate survives the threshold."""
    model = model_config("lidar_pillar")
    grid = model.grid.build()
    generator = torch.Generator().manual_seed(0)
    maps = {n: 0.3 * torch.randn(8, w, grid.H, grid.W, generator=generator) for n, w in REGRESSION}
    heat = torch.randn(8, 10, grid.H, grid.W, generator=generator) - 4
    outputs = CenterOutput([TaskOutput(heat, maps)], tuple(range(10)))
    decode(outputs, model)
    start = time.process_time()
    found = decode(outputs, model)
    assert len(found) > 8 * 50
    # An old processor with other work took 0.12 s.
    assert (time.process_time() - start) / 8 < 0.5
