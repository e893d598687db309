"""Fixtures of the tests that train or plan."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from train_case import folder, tiny_run
from workflow_case import Plans

from bevkd.train import train


@pytest.fixture(scope="session")
def plans(shared: Any) -> Plans:
    """What Snakemake plans in a clean clone."""
    return Plans(shared)


@pytest.fixture(scope="module")
def trained(smoke_dataset: Any, shared: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Root with a trained LiDAR run `teacher`, which is trained once per session; each module has a copy."""
    run = tiny_run(smoke_dataset, "teacher")
    made = shared.made("trained", lambda root: train(run, folder(root, run)))
    return Path(shutil.copytree(made, tmp_path_factory.mktemp("trained") / "root"))
