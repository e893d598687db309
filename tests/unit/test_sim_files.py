"""Same seed, same bytes; and nothing half-written is left behind."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from bevkd.errors import ConfigError
from bevkd.sim import SCALES, SimConfig, simulate_nuscenes
from bevkd.sim import nuscenes as writer
from bevkd.sim.config import CameraConfig, LabelledConfig, LidarConfig, SplitConfig

# The smallest dataset in which every class occurs.
TINY = replace(
    SCALES["smoke"],
    splits=SplitConfig(train=5, tune=1, val=1, keyframes_per_scene=2),
    camera=CameraConfig(height=16, width=44, sweeps=1),
    lidar=LidarConfig(rings=8, azimuths=64, sweeps=1),
    world=replace(SCALES["smoke"].world, counts=tuple((c, max(2.0, n)) for c, n in SCALES["smoke"].world.counts)),
    labelled=LabelledConfig(count=8, subsets=2),
)


def _digest(root: Path) -> dict[str, str]:
    files = sorted(p for p in root.rglob("*") if p.is_file())
    return {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_same_seed_same_bytes_whatever_the_workers(tmp_path: Path) -> None:
    simulate_nuscenes(TINY, tmp_path / "one", seed=4, workers=1)
    simulate_nuscenes(TINY, tmp_path / "two", seed=4, workers=2)
    simulate_nuscenes(TINY, tmp_path / "other", seed=5, workers=1)
    one, two, other = (_digest(tmp_path / name) for name in ("one", "two", "other"))
    assert len(one) > 100
    assert one == two
    assert one.keys() != other.keys()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["one", "other", "two"]


def test_a_failure_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object) -> None:
        raise RuntimeError("disk full")

    monkeypatch.setattr(writer, "write_mask", fail)
    with pytest.raises(RuntimeError, match="disk full"):
        simulate_nuscenes(TINY, tmp_path / "out", seed=0)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_dataset_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ConfigError, match="not an empty folder"):
        simulate_nuscenes(TINY, tmp_path, seed=0)
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (replace(TINY, splits=replace(TINY.splits, val=0)), "splits.val"),
        (replace(TINY, lidar=replace(TINY.lidar, sweeps=10)), "lidar.sweeps"),
        (replace(TINY, labelled=LabelledConfig(count=11)), "labelled.count"),
    ],
)
def test_bad_settings_are_named(config: SimConfig, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        simulate_nuscenes(config, tmp_path / "out", seed=0)
    assert list(tmp_path.iterdir()) == []


def test_every_scale_is_valid() -> None:
    assert set(SCALES) == {"smoke", "sim", "paper"}
    for config in SCALES.values():
        config.validate(conditions=True)
    sim, paper = SCALES["sim"], SCALES["paper"]
    frames = {split: scenes * sim.splits.keyframes_per_scene for split, scenes in sim.splits.scenes.items()}
    assert frames == {"train": 800, "tune": 200, "val": 300, "conditions": 128}
    assert (paper.lidar.rings, paper.lidar.azimuths, paper.lidar.sweeps) == (32, 1090, 9)
    assert (paper.camera.height, paper.camera.width, paper.camera.sweeps) == (900, 1600, 5)
