"""Pictures that need trained detectors, from tiny but real runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from train_case import tiny_model, tiny_run

from bevkd.config import RunConfig, run_dir
from bevkd.errors import DataError
from bevkd.report.figure_kinds import CurveSpec, Detections, ResponseMaps
from bevkd.report.figures import write
from bevkd.report.runs import Runs
from bevkd.report.scenes import SceneReader, predict_frames
from bevkd.train import train

pytestmark = pytest.mark.slow
COLUMNS = (CurveSpec("teacher", "lidar_base"), CurveSpec("student", "camera_base"), CurveSpec("distilled", "l_to_c"))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, smoke_dataset) -> Runs:
    """A LiDAR teacher, a camera student and the same student distilled."""
    root = tmp_path_factory.mktemp("report_models") / "results/runs"
    configs: list[RunConfig] = [
        tiny_run(smoke_dataset, "lidar_base", model=tiny_model("lidar"), steps=4),
        tiny_run(smoke_dataset, "camera_base", model=tiny_model("camera"), steps=4),
        tiny_run(smoke_dataset, "l_to_c", model=tiny_model("camera"), teacher="lidar_base", method="dense", steps=4),
    ]
    for config in configs:
        train(config, run_dir(config.run, config.scale, config.seed, root))
    return Runs(root, configs[0].scale, {config.run: config.row for config in configs})


@pytest.mark.parametrize(
    "spec",
    [
        ResponseMaps("f", "", "", kind="response_maps", columns=COLUMNS, frames=2),
        Detections("f", "", "", kind="detections", columns=COLUMNS, frames=1),
        Detections("f", "", "", kind="detections", columns=COLUMNS, frames=1, min_score=0.05),
    ],
)
def test_figures_of_detectors(runs: Runs, tmp_path: Path, spec: ResponseMaps | Detections):
    assert spec.needs(runs.rows) == [("lidar_base", 0), ("camera_base", 0), ("l_to_c", 0)]
    png, pdf = write(spec, runs, tmp_path)
    assert pdf.read_bytes().startswith(b"%PDF")
    with Image.open(png) as image:
        assert min(image.size) > 600
        assert np.asarray(image.convert("RGB")).std() > 10


def test_predictions_are_those_of_the_frame(runs: Runs):
    config = runs.config("lidar_base")
    reader = SceneReader(config.data, config.model.grid.area)
    tokens = reader.fullest("val", 2)
    found = predict_frames(runs, "lidar_base", 0, [("val", token) for token in tokens])
    again = predict_frames(runs, "lidar_base", 0, [("val", tokens[1])])[0]
    assert np.array_equal(found[1].boxes, again.boxes)
    assert not np.array_equal(found[0].response, found[1].response)
    grid = config.model.grid.build()
    assert found[0].response.shape == (grid.H, grid.W)
    strong = found[0].above(0.5)
    assert len(strong.boxes) == len(strong.labels) == (found[0].scores >= 0.5).sum()
    few = found[0].best(3)
    assert np.array_equal(few.scores, np.sort(found[0].scores)[::-1][:3])
    assert len(few.boxes) == len(few.labels) == 3
    with pytest.raises(DataError, match="not in split"):
        predict_frames(runs, "lidar_base", 0, [("tune", tokens[0])])
