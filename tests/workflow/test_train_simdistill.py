"""A teacher fuser that learns with the student, in trainings: with a live and a cached teacher, and interrupted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from train_case import folder, tiny_model, tiny_run

from bevkd.config import MethodConfig, RunConfig
from bevkd.errors import Interrupted
from bevkd.train import train


@pytest.fixture(scope="module")
def taught(smoke_dataset: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Root with a trained LiDAR + camera teacher."""
    root = tmp_path_factory.mktemp("taught")
    run = tiny_run(smoke_dataset, "both", model=tiny_model("lidar", "camera"), steps=2)
    train(run, folder(root, run))
    return root


def student(dataset: Any, name: str, mode: str, fuser: str) -> RunConfig:
    run = tiny_run(
        dataset,
        name,
        model=tiny_model("lidar", "camera"),
        teacher="both",
        teacher_mode=mode,
        method="simdistill",
        steps=4,
    )
    options = {"teacher_fuser": fuser, "cmd": {"enabled": False}}
    return replace(run, row=replace(run.row, method=MethodConfig("simdistill", options)))


def weights(path: Path) -> dict[str, Tensor]:
    state: dict[str, Tensor] = torch.load(path, weights_only=True)["model"]
    return state


@pytest.mark.parametrize("mode", ["live", "cached"])
def test_a_fuser_that_learns_goes_on_where_it_was(smoke_dataset: Any, taught: Path, mode: str) -> None:
    whole, parts, frozen = (
        student(smoke_dataset, f"{name}_{mode}", mode, "frozen" if name == "frozen" else "trained")
        for name in ("whole", "parts", "frozen")
    )
    wanted = weights(train(whole, folder(taught, whole)))
    with pytest.raises(Interrupted):
        train(parts, folder(taught, parts), stop_after=2)
    found = weights(train(parts, folder(taught, parts)))
    assert all(torch.equal(found[name], value) for name, value in wanted.items())
    other = weights(train(frozen, folder(taught, frozen)))
    assert not all(torch.equal(other[name], value) for name, value in wanted.items())
    assert not any("fuser.frozen" in name for name in wanted)  # of the training alone
