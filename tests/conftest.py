"""Fixtures that several areas share: the real data beside the repository, and a simulated data set."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pytest
from session_shared import Shared

# Files of minutes, the longest first: begun last, one of them would leave the other processes idle at the end.
LONGEST = (
    "workflow/test_workflow_run.py",
    "workflow/test_workflow_plan.py",
    "unit/test_train_paper.py",
    "workflow/test_workflow_dvc.py",
    "workflow/test_workflow_console.py",
    "workflow/test_walks.py",
    "workflow/test_workflow_warm.py",
    "workflow/test_workflow_cost.py",
    "workflow/test_train_loop.py",
    "workflow/test_workflow_retries.py",
    "workflow/test_workflow_names.py",
    "workflow/test_train_teacher.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first; `--no-loadscope-reorder` keeps pytest-xdist from putting those of few tests last."""
    place = {Path(__file__).parent / name: number for number, name in enumerate(LONGEST)}
    assert all(path.exists() for path in place)
    items.sort(key=lambda item: place.get(item.path, len(place)))


@pytest.fixture(scope="session")
def shared_real() -> Path:
    """Folder with real keyframes (`nuscenes/`, `kitti/`, `waymo/`): $BEVKD_SHARED/real, else ../shared/real."""
    shared = Path(os.environ.get("BEVKD_SHARED", Path(__file__).resolve().parents[2] / "shared"))
    if not (shared / "real").is_dir():
        pytest.skip(f"no real data at {shared / 'real'}; set BEVKD_SHARED to the folder that holds real/")
    return shared / "real"


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Shared:
    """What the session's processes have in common: the folder above those of pytest-xdist's workers."""
    base = tmp_path_factory.getbasetemp()
    return Shared((base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared")


@dataclass(frozen=True)
class SmokeDataset:
    """A simulated data set of `smoke` scale and its index."""

    root: Path
    version: str
    index: Path


@pytest.fixture(scope="session")
def smoke_dataset(shared: Shared) -> SmokeDataset:
    """Simulated once per test session; tests must not write into it."""
    from bevkd.data import convert_nuscenes
    from bevkd.sim import SCALES, simulate_nuscenes

    def make(folder: Path) -> None:
        simulate_nuscenes(SCALES["smoke"], folder / "data", seed=0)
        convert_nuscenes(folder / "data", "v1.0-sim", folder / "index")

    folder = shared.made("smoke", make)
    return SmokeDataset(folder / "data", "v1.0-sim", folder / "index")


@pytest.fixture(scope="session")
def smoke_images(shared: Shared) -> SmokeDataset:
    """Simulated nuImages, once per test session; tests must not write into it."""
    from bevkd.data.nuimages.convert import convert_nuimages
    from bevkd.sim import NUIMAGES_SCALES, simulate_nuimages

    def make(folder: Path) -> None:
        simulate_nuimages(NUIMAGES_SCALES["smoke"], folder / "data", seed=0)
        convert_nuimages(folder / "data", None, folder / "index")

    folder = shared.made("images", make)
    return SmokeDataset(folder / "data", "v1.0", folder / "index")
