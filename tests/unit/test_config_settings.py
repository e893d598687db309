"""Mistakes in `--set` name the setting that was meant, or what the setting wants."""

from __future__ import annotations

import pytest

from bevkd.config import load_run
from bevkd.config.explain import explain
from bevkd.config.settings import nearest_setting, setting_names
from bevkd.errors import ConfigError


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trian.lr=1", "there is no setting 'trian.lr' (did you mean 'train.lr'?)"),
        ("lr=1", "there is no setting 'lr' (did you mean 'train.lr'?)"),
        ("model.lr=1", "there is no setting 'model.lr' (did you mean 'train.lr'?)"),
        ("train.stepz=1", "there is no setting 'train.stepz' (did you mean 'train.steps'?)"),
        ("data.clases=[car]", "(did you mean 'data.classes'?)"),
        ("data.augment.bev.flp=true", "(did you mean 'data.augment.bev.flip'?)"),
        ("model.camera.backbone.knd=x", "(did you mean 'model.camera.backbone.kind'?)"),
        ("model.reach=30", "(did you mean 'model.grid.reach'?)"),
        (
            "train.batch_size=many",
            "valid integer, unable to parse string as an integer, not 'many' (--set); train.batch_size is 4",
        ),
        (
            "train.precision=fp8",
            "'fp32', 'bf16', 'fp16' or 'auto', not 'fp8' (--set); train.precision is 'auto' without",
        ),
        ("model.grid.reach=-1", "greater than 0, not -1 (--set); model.grid.reach is 25.6 without --set"),
        ("train=5", "train is a group of settings: train.steps, train.steps_factor"),
        ("train.optimizer=adm", "train.optimizer is a group of settings: "),
        ("row.teacher=x", "'row' cannot be set, it says which run this is"),
        ("model.lidar.cell=1", "--set sets model.lidar, but the model has no such stage (its sensors: camera)"),
        ("steps", "--set wants key=value, got 'steps'"),
        ("train.lr=[1", "the value is not valid YAML: while parsing a flow sequence, did not find expected ',' or ']'"),
    ],
)
def test_a_bad_override(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_run("camera_base", "sim", 0, ["train.log_every=5", override])
    text = str(caught.value)
    assert message in text
    assert "\n" not in text
    assert "train.log_every" not in text.replace("train.log_every, ", ""), "the good one is not blamed"


def test_every_setting_is_found_from_its_last_word() -> None:
    names = {"train.lr": 0, "train": 0, "model.grid.cell": 0, "model.lidar.cell": 0}
    assert nearest_setting("lr", names) == " (did you mean 'train.lr'?)"
    assert nearest_setting("grid.cell", names) == " (did you mean 'model.grid.cell'?)"
    assert nearest_setting("lidar.cel", names) == " (did you mean 'model.lidar.cell'?)"
    assert nearest_setting("nonsense", names) == ""
    assert list(setting_names({"a": {"b": 1}, "c": [1]})) == ["a", "a.b", "c"]


def test_explain_knows_what_was_meant() -> None:
    with pytest.raises(ConfigError, match=r"did you mean 'train.lr'"):
        explain("camera_base", "sim", 0, "lr")


def test_an_unknown_scale_names_the_known_ones() -> None:
    with pytest.raises(
        ConfigError, match=r"unknown scale 'smokey' \(did you mean 'smoke'\?\); known: paper, sim, smoke"
    ):
        load_run("camera_base", "smokey", 0)
