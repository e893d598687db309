"""A trained run on other data: what may differ, and what stays as it was trained."""

from __future__ import annotations

import pytest

from bevkd.cli import main
from bevkd.config import load_run
from bevkd.config.applied import applied, changes
from bevkd.errors import ConfigError


def test_data_and_decoding_may_differ() -> None:
    run = load_run("lidar_base", "smoke", 0)
    plain = changes(["data.version=v1.0-test", "model.decode.score_threshold=0.3"], index="data/123", root="elsewhere")
    other = applied(run, plain)
    assert (other.data.index, other.data.root, other.data.version) == ("data/123", "elsewhere", "v1.0-test")
    assert other.model.decode.score_threshold == 0.3
    assert (other.model.grid, other.train, other.row) == (run.model.grid, run.train, run.row)
    assert applied(run, changes([])) == run


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.lr=1", "train.lr is of the network or its training"),
        ("model.grid.reach=10", "model.grid.reach is of the network"),
        ("model={}", "model is of the network"),
        ("seed=3", "seed is of the network"),
        ("data.classes=[car]", "data.classes is what the network was trained for"),
        ("data.image_mean=[0, 0, 0]", "data.image_mean is what the network was trained for"),
        ("data.augment.variants=2", "data.augment is of the network or its training"),
        ("data.cbgs=true", "data.cbgs is of the network or its training"),
        ("data.verison=v1.0-test", "data.verison is no setting.*did you mean 'data.version'"),
        ("data=nuscenes", "data is of the network"),
        ("data.version", "wants key=value"),
    ],
)
def test_the_network_stays(override: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError, match=message):
        changes([override])
    assert main(["predict", "--run", "lidar_base", "--split", "val", "--set", override]) == 2


def test_one_thing_is_said_once() -> None:
    with pytest.raises(ConfigError, match="say the same"):
        changes(["data.index=a"], index="b")
    with pytest.raises(ConfigError, match=r"data\.max_range.*not 'far'"):
        applied(load_run("lidar_base", "smoke", 0), changes(["data.max_range=far"]))
