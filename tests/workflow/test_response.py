"""The numbers behind Figures S2 and S3: scores on objects, in their borders and in the background."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from train_case import folder, tiny_run

from bevkd.data.batch import Boxes
from bevkd.errors import CheckpointError, ConfigError
from bevkd.geometry import BEVGrid
from bevkd.report.metrics import METRICS, value_of
from bevkd.train.response import BORDER, false_share, heat_by_part, measure_response

GRID = BEVGrid(-8.0, -8.0, 1.0, 16, 16)


def test_cells_are_told_apart_by_their_distance_to_a_box() -> None:
    boxes = Boxes(torch.tensor([[0.0, 0, 0, 4, 2, 1, 0, 0, 0]]), torch.tensor([0]), torch.tensor([1]), torch.ones(1))
    heat = torch.full((2, 16, 16), 0.125)  # background, and a frame without any object
    heat[1, 7 - BORDER : 9 + BORDER, 6 - BORDER : 10 + BORDER] = 0.5
    heat[1, 7:9, 6:10] = 1.0  # the 4 x 2 cells whose centres the box holds
    total, count = heat_by_part(heat, boxes, GRID)
    around = (4 + 2 * BORDER) * (2 + 2 * BORDER)
    assert count.tolist() == [8, around - 8, 2 * 256 - around]
    assert (total / count).tolist() == [1.0, 0.5, 0.125]


def boxes_at(*rows: tuple[float, float, int, int, float]) -> Boxes:
    """Boxes from (x, y, label, frame, score)."""
    box = torch.tensor([(x, y, 0.5, 4.0, 2.0, 1.5, 0.3, 0, 0) for x, y, *_ in rows]).reshape(-1, 9)
    label, frame = (torch.tensor([row[k] for row in rows]).long() for k in (2, 3))
    return Boxes(box, label, frame, torch.tensor([row[4] for row in rows]))


def test_false_detections_among_the_best() -> None:
    truth = boxes_at((0, 0, 0, 0, 1), (10, 0, 0, 0, 1), (0, 0, 8, 1, 1), (20, 0, 0, 2, 1))
    assert false_share(truth, truth) == 0
    found = boxes_at(
        (0.5, 0, 0, 0, 0.5),  # the first car is taken already
        (1.0, 0, 0, 0, 0.9),
        (0, 0, 0, 1, 0.8),  # a car where a pedestrian is
        (12.5, 0, 0, 0, 0.7),  # too far
        (0, 0, 8, 1, 0.4),  # right, but beyond the four that count
    )
    assert false_share(found, truth) == 3 / 4
    assert false_share(found.select(torch.tensor([1, 4])), truth) == 0
    assert false_share(found.select(torch.tensor([1, 2])), truth) == 1 / 2
    assert false_share(Boxes.empty(), truth) == 0
    other = boxes_at((0, 0, 10, 0, 1), (0, 0, 15, 1, 1))  # labels that nuScenes has not: a cyclist, a sign
    assert false_share(other, other) == 0
    assert false_share(boxes_at((0, 0, 0, 1, 0.9), (0, 0, 15, 1, 0.8)), other) == 1 / 2


def test_a_trained_run_is_measured(smoke_dataset: Any, trained: Path, tmp_path: Path) -> None:
    run = folder(trained, tiny_run(smoke_dataset, "teacher"))
    out = tmp_path / "some" / "where.json"
    found = measure_response(run, "val", out)
    assert json.loads(out.read_text()) == found
    assert all(0 < found[part] < 1 for part in ("object", "border", "background"))
    assert 0 < found["false_share"] <= 1
    assert found["border_ratio"] == found["border"] / found["object"]
    for key, metric in METRICS.items():
        if metric.file == "response":
            assert value_of(found, key, run) == 100 * found[metric.field[0]]
    assert measure_response(run, "val", out, batch_size=1) == pytest.approx(found, rel=1e-2)
    with pytest.raises(ConfigError, match="no_such_split"):
        measure_response(run, "no_such_split", out)
    with pytest.raises(CheckpointError):
        measure_response(run.parent, "val", out)
