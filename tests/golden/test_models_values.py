"""Hand-worked values of the detector's targets and loss at the published settings (UniDistill spec, 4.6, 4.7, 14)."""

from __future__ import annotations

import math

import pytest
import torch

from bevkd.config.schema import ModelConfig
from bevkd.data.batch import Batch, Boxes
from bevkd.models.heads.center_settings import CenterSettings
from bevkd.models.losses import DetectionLoss
from bevkd.models.outputs import REGRESSION, BEVOutputs, CenterOutput, TaskOutput
from bevkd.models.targets import TargetAssigner

# The golden box of the nine points: centre (10, -4) m is (u, v) = (106.667, 83.333) on the 180 x 180 grid.
GOLDEN = torch.tensor([[10.0, -4.0, 0.5, 4.0, 2.0, 1.5, math.radians(30), 3.0, -1.0]])


def one_box(label: int = 0) -> Boxes:
    return Boxes(GOLDEN, torch.tensor([label]), torch.tensor([0]), torch.ones(1))


def test_nine_nearest_anchors_of_the_golden_box() -> None:
    target = TargetAssigner(CenterSettings(), ModelConfig().grid.build())(one_box(), 1)[0]
    cells = {(int(c) % 180, int(c) // 180) for c in target.positive}
    sure = {(107, 83), (106, 83), (107, 84), (106, 84), (108, 83), (107, 82), (106, 82), (108, 84)}
    assert sure < cells  # squared distances 2/9, 5/9, 5/9, 8/9, 17/9, 17/9, 20/9, 20/9
    assert cells - sure <= {(105, 83), (107, 85)}  # both 26/9: a tie
    assert len(cells) == 9
    nearest = target.regression[target.positive.tolist().index(83 * 180 + 107)].tolist()
    expected = [-1 / 3, 1 / 3, 0.5, math.log(4), math.log(2), math.log(1.5), 0.5, math.sqrt(3) / 2, 3.0, -1.0]
    assert nearest == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    ("size", "radius"),
    [((4.63, 1.96), 2), ((0.73, 0.67), 2), ((12.29, 2.90), 3)],  # 3.95, floored; the others lie below the minimum of 2
)
def test_gaussian_heatmaps_of_centerpoint(size: tuple[float, float], radius: int) -> None:
    boxes = one_box()
    boxes.boxes = GOLDEN.clone()
    boxes.boxes[:, 3:5] = torch.tensor(size)
    head = CenterSettings(targets="gaussian")
    peak = TargetAssigner(head, ModelConfig().grid.build())(boxes, 1)[0].heatmap[0, 0]
    assert float(peak[83, 106]) == 1
    row = (peak[83] > 0).nonzero().squeeze(1)
    assert (int(row.min()), int(row.max())) == (106 - radius, 106 + radius)


def test_auto_scaling_at_init() -> None:
    """Per task 0.5 (a + b + c) + 3 ln 2: with zero maps and one car every term is known."""
    model = ModelConfig()
    grid = model.grid.build()

    def maps(channels: int) -> torch.Tensor:
        return torch.zeros(1, channels, grid.H, grid.W)

    heads = [TaskOutput(maps(len(t)), {name: maps(width) for name, width in REGRESSION}) for t in model.head.tasks]
    outputs = BEVOutputs({"low": maps(1), "high": maps(1)}, CenterOutput(heads, tuple(range(10))))
    batch = Batch(["t"], [0], torch.ones(1, dtype=torch.bool), torch.eye(4)[None], one_box())
    terms = DetectionLoss(model)(outputs, batch)
    half, cells = math.log(2), 180 * 180
    negative = -0.75 * 0.25 * math.log(0.5 + 1e-4)
    car = (9 * 0.25 * 0.25 * half + (cells - 9) * negative) / 9
    others = sum(classes * cells * negative for classes in (2, 2, 1, 2, 2))
    assert float(terms["heatmap"]) == pytest.approx(car + others, rel=1e-5)
    three = float(terms["heatmap"] + terms["loc"] + terms["iou_aware"])
    assert float(terms["total"].detach()) == pytest.approx(0.5 * three + 6 * 3 * math.log(2), rel=1e-6)
