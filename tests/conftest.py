"""Fixtures that several areas share: the real data beside the repository, and a simulated data set."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_real() -> Path:
    """Folder with real keyframes (`nuscenes/`, `kitti/`, `waymo/`): $BEVKD_SHARED/real, else ../shared/real."""
    shared = Path(os.environ.get("BEVKD_SHARED", Path(__file__).resolve().parents[2] / "shared"))
    if not (shared / "real").is_dir():
        pytest.skip(f"no real data at {shared / 'real'}; set BEVKD_SHARED to the folder that holds real/")
    return shared / "real"


@dataclass(frozen=True)
class SmokeDataset:
    """A simulated data set of `smoke` scale and its index."""

    root: Path
    version: str
    index: Path


@pytest.fixture(scope="session")
def smoke_dataset(tmp_path_factory: pytest.TempPathFactory) -> SmokeDataset:
    """Simulated once per test session; tests must not write into it."""
    from bevkd.data import convert_nuscenes
    from bevkd.sim import SCALES, simulate_nuscenes

    folder = tmp_path_factory.mktemp("smoke")
    simulate_nuscenes(SCALES["smoke"], folder / "data", seed=0)
    index = convert_nuscenes(folder / "data", "v1.0-sim", folder / "index")
    return SmokeDataset(folder / "data", "v1.0-sim", index)


@pytest.fixture(scope="session")
def smoke_images(tmp_path_factory: pytest.TempPathFactory) -> SmokeDataset:
    """Simulated nuImages, once per test session; tests must not write into it."""
    from bevkd.data.nuimages.convert import convert_nuimages
    from bevkd.sim import NUIMAGES_SCALES, simulate_nuimages

    folder = tmp_path_factory.mktemp("images")
    simulate_nuimages(NUIMAGES_SCALES["smoke"], folder / "data", seed=0)
    return SmokeDataset(folder / "data", "v1.0", convert_nuimages(folder / "data", None, folder / "index"))
