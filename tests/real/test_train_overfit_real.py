"""Each detector learns the real nuScenes keyframe by heart: data, targets, losses and decoding fit together."""

from __future__ import annotations

from pathlib import Path

import pytest

from bevkd.config import load_run
from bevkd.data import convert_nuscenes
from bevkd.train.overfit import overfit

STEPS = {"lidar_base": 150, "camera_base": 220, "fusion_base": 150}
# Classes of the keyframe that have boxes with more than five LiDAR points within the ranges of the benchmark.
EXPECTED = {"car": 4, "truck": 2, "barrier": 10, "pedestrian": 7, "traffic_cone": 1}
SENSORS = {
    "lidar": "model.lidar.cell=0.4",
    "camera": "model.camera={image_size: [128, 352], view: {depth_max: 58.0}}",
}


@pytest.fixture(scope="module")
def index(shared_real: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return convert_nuscenes(shared_real / "nuscenes", "v1.0-mini", tmp_path_factory.mktemp("real") / "index")


@pytest.mark.slow
@pytest.mark.parametrize("name", list(STEPS))
def test_detector_overfits_the_real_keyframe(shared_real: Path, index: Path, name: str, tmp_path: Path) -> None:
    run = load_run(
        name,
        "sim",
        0,
        [
            f"data.root={shared_real / 'nuscenes'}",
            f"data.index={index}",
            "data.version=v1.0-mini",
            "data.train_split=mini_train",
            "data.max_range=null",
            "data.lidar_sweeps=0",
            "model.grid={reach: 51.2, cell: 0.8}",  # the widths of the small detectors on the area of the benchmark
            *(setting for sensor, setting in SENSORS.items() if sensor in load_run(name, "sim", 0).model.sensors),
            "model.decode.centre_limit=51.2",
            f"train={{steps: {STEPS[name]}, log_every: 50, checkpoint_every: 1000}}",
        ],
    )
    result = overfit(run, tmp_path / "runs" / "sim" / name / "seed0")
    assert result.boxes == EXPECTED
    assert result.mean_ap > 0.9, result.ap
