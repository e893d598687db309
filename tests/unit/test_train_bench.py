"""Timing helpers and the profile of a detector."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from bevkd.bench import profile
from bevkd.bench.profile import macs_dense2d, profile_model, profile_run, synthetic_frame
from bevkd.bench.timing import Timings, machine, take_turns
from bevkd.cli import main
from bevkd.config import DataConfig, ModelConfig, load_model, load_rows, load_run
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


def test_a_run_is_profiled_as_it_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    """The recipe gives the published LiDAR detector voxels of 0.075 m; its model alone has pillars."""
    seen = []

    def measure(config: ModelConfig, data: DataConfig, scale: str, rounds: int) -> dict[str, Any]:
        seen.append((config, data, scale, rounds))
        return {"params": 1}

    monkeypatch.setattr(profile, "measure", measure)
    run = load_run("lidar_base", "paper", load_rows()["lidar_base"].seeds[0])
    found = profile_run("lidar_base", "paper", rounds=2)
    assert found == {"run": "lidar_base", "model": "lidar_pillar", "scale": "paper", "params": 1}
    assert profile_model("lidar_pillar", "paper") == {"model": "lidar_pillar", "scale": "paper", "params": 1}
    assert seen[0] == (run.model, run.data, "paper", 2)
    assert (seen[0][0].lidar.kind, seen[0][0].lidar.cell) == ("voxel", 0.075)
    assert seen[1][0].lidar.kind == "pillar"


def test_size_of_a_run() -> None:
    found = profile_run("camera_depth", "smoke", rounds=1)
    run = load_run("camera_depth", "smoke", 0)
    assert found["params"] == sum(p.numel() for p in build_detector(run.model).parameters())
    assert found["latency_ms"] > 0


def test_the_command_wants_a_model_or_a_run(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["--model", "lidar_pillar", "--run", "lidar_base"]):
        assert main(["profile", "--scale", "smoke", *arguments]) != 0
        assert "either --model or --run" in capsys.readouterr().err
    assert main(["profile", "--run", "lidar_bas", "--scale", "smoke"]) != 0
    assert "did you mean 'lidar_base'" in capsys.readouterr().err


def test_unknown_names() -> None:
    with pytest.raises(ConfigError, match="lidar_pilar"):
        profile_model("lidar_pilar", "sim")
    with pytest.raises(ConfigError, match="one round"):
        profile_model("lidar_pillar", "sim", rounds=0)
