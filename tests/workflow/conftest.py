"""Fixtures of the tests that train."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from train_case import folder, tiny_run

from bevkd.train import train


@pytest.fixture(scope="module")
def trained(smoke_dataset: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Root with a trained LiDAR run `teacher`."""
    root = tmp_path_factory.mktemp("trained")
    run = tiny_run(smoke_dataset, "teacher")
    train(run, folder(root, run))
    return root
