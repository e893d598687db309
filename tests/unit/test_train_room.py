"""Batches that no memory holds are refused before the first step, and none that it may hold."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from bevkd.config import RunConfig, load_run
from bevkd.errors import ConfigError
from bevkd.train import room
from bevkd.train.setup import build_student


def of(batch: int, accumulate: int = 1) -> RunConfig:
    run = load_run("lidar_base", "smoke", 0)
    return replace(run, train=replace(run.train, batch_size=batch, unlabelled_per_batch=0, accumulate=accumulate))


def test_a_step_takes_its_maps_and_weights_with_their_gradients() -> None:
    detector = build_student(of(1))
    maps = [info for info in detector.spec.features.values() if info.layout == "bev"]
    assert {"lidar", "low", "high"} <= {name for name, info in detector.spec.features.items() if info in maps}
    cells = detector.grid.W * detector.grid.H
    numbers = sum(int(info.channels * cells / info.stride**2) for info in maps)
    weights = sum(one.numel() for one in detector.parameters())
    assert room.least_bytes(detector, 0) == 8 * weights
    assert room.least_bytes(detector, 3) == 8 * weights + 3 * 2 * numbers


def test_a_batch_that_cannot_fit_is_refused_and_says_what_helps(monkeypatch: pytest.MonkeyPatch) -> None:
    detector, cpu = build_student(of(1)), torch.device("cpu")
    assert room.memory_bytes(cpu) > 1e8
    room.check_room(detector, of(4), 1, cpu)
    monkeypatch.setattr(room, "memory_bytes", lambda device: room.least_bytes(detector, 8))
    room.check_room(detector, of(8), 1, cpu)
    with pytest.raises(ConfigError, match=r"'lidar_base'.*batch_size: 9 frames.*train\.accumulate"):
        room.check_room(detector, of(9), 1, cpu)
    room.check_room(detector, of(9, accumulate=2), 1, cpu)
    room.check_room(detector, of(16), 2, cpu)
