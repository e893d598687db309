"""Timing helpers and the profile of a detector."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bevkd.bench.profile import macs_dense2d, profile_model, synthetic_frame
from bevkd.bench.timing import Timings, machine, take_turns
from bevkd.config import load_model
from bevkd.data import reads_of
from bevkd.errors import ConfigError
from bevkd.models.detector import build_detector


def test_contestants_take_turns() -> None:
    order: list[str] = []
    clock = iter(range(1000))
    timings = take_turns(
        {"a": lambda: order.append("a"), "b": lambda: order.append("b")},
        rounds=2,
        warmup=1,
        clock=lambda: float(next(clock)),
    )
    assert order == ["b", "a", "a", "b", "b", "a"]
    assert timings.seconds == {"a": [1.0, 1.0], "b": [1.0, 1.0]}


def test_ratio_pairs_rounds() -> None:
    timings = Timings({"ours": [2.0, 20.0, 4.0], "theirs": [1.0, 10.0, 1.0]})
    assert timings.ratio("ours", "theirs") == 2.0  # not the ratio of medians, 4
    assert timings.median("ours") == 4.0
    assert timings.summary("theirs")["ours"]["ratio"] == 2.0
    assert timings.summary("theirs")["theirs"]["ratio"] == 1.0


def test_machine_names_what_matters() -> None:
    facts = machine()
    assert facts["cores"] >= 1
    assert facts["torch"] == torch.__version__


def test_macs_of_hand_counted_layers() -> None:
    class Small(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 3, stride=2, padding=1)
            self.up = nn.ConvTranspose2d(8, 4, 2, stride=2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.up(self.conv(x))

    # 8 x 8 outputs of 8 channels, 27 products each; 8 x 8 inputs of 8 channels, 4 x 2 x 2 products each.
    expected = 8 * 8 * 8 * 27 + 8 * 8 * 8 * 16
    assert macs_dense2d(Small(), torch.zeros(1, 3, 16, 16)) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["lidar_pillar", "camera", "fusion"])
def test_profile(name: str) -> None:
    found = profile_model(name, "sim", rounds=1)
    config, data = load_model(name, "sim")
    detector = build_detector(config)
    assert found["params"] == sum(p.numel() for p in detector.parameters())
    assert found["latency_ms"] > 0
    assert 2 * found["macs_dense2d"] <= found["flops_total"] < 2.5 * found["macs_dense2d"]
    batch = synthetic_frame(reads_of(config, data), config.grid.reach, 100)
    assert (batch.points is not None) == ("lidar" in config.sensors)
    assert (batch.cameras is not None) == ("camera" in config.sensors)


def test_unknown_names() -> None:
    with pytest.raises(ConfigError, match="lidar_pilar"):
        profile_model("lidar_pilar", "sim")
    with pytest.raises(ConfigError, match="one round"):
        profile_model("lidar_pillar", "sim", rounds=0)
