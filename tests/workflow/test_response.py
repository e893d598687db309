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
from bevkd.train.response import BORDER, heat_by_part, measure_response

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


def test_a_trained_run_is_measured(smoke_dataset: Any, trained: Path, tmp_path: Path) -> None:
    run = folder(trained, tiny_run(smoke_dataset, "teacher"))
    out = tmp_path / "some" / "where.json"
    found = measure_response(run, "val", out)
    assert json.loads(out.read_text()) == found
    assert all(0 < found[part] < 1 for part in ("object", "border", "background"))
    assert found["border_ratio"] == found["border"] / found["object"]
    for key, metric in METRICS.items():
        if metric.file == "response":
            assert value_of(found, key, run) == 100 * found[metric.field[0]]
    assert measure_response(run, "val", out, batch_size=1) == pytest.approx(found, rel=1e-2)
    with pytest.raises(ConfigError, match="no_such_split"):
        measure_response(run, "no_such_split", out)
    with pytest.raises(CheckpointError):
        measure_response(run.parent, "val", out)
