"""Settings of training: neutral defaults, stored ones of before, and what runs wait for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from bevkd.config import RowConfig, TrainConfig, first_seeds, load_run, merge, parse, to_plain
from bevkd.config.chain import awaited, check_chains, needed_by, with_needed
from bevkd.config.training import InitConfig
from bevkd.config.upgrade_train import upgrade_train
from bevkd.errors import ConfigError


def row(name: str, **settings: Any) -> RowConfig:
    return parse(RowConfig, {"id": name, "dataset": "nuscenes_sim", "model": "camera", **settings}, name)


def rows(*each: RowConfig) -> dict[str, RowConfig]:
    return {one.id: one for one in each}


def test_settings_survive_being_stored() -> None:
    plain = {
        "optimizer": {"kind": "sgd", "groups": [{"match": "head", "lr_factor": 0.1}]},
        "schedule": {"kind": "step", "at": [{"epoch": 16, "of": 24}], "warmup": {"step": 5}},
        "switch_off": [{"fraction": 0.75, "what": ["gt_paste"]}],
    }
    config = parse(TrainConfig, plain, "test")
    assert parse(TrainConfig, to_plain(config), "again") == config
    assert config.schedule.at[0].of == 24


def test_stored_settings_of_before_mean_the_same() -> None:
    then = {
        "steps": 0, "epochs": 20, "batch_size": 20, "lr": 0.001, "weight_decay": 0.01, "betas": [0.95, 0.99],
        "cycle_momentum": True, "warmup_fraction": 0.4, "div_factor": 10.0, "final_div_factor": 10000.0,
        "grad_clip": 0.1,
    }  # fmt: skip
    published = load_run("lidar_base", "paper", 0).train
    assert parse(TrainConfig, upgrade_train(then), "stored") == published
    assert parse(TrainConfig, upgrade_train({}), "its defaults") == published
    still = parse(TrainConfig, upgrade_train(then | {"cycle_momentum": False, "weight_decay": 0.5}), "stored")
    assert (still.schedule.momentum_dip, still.optimizer.weight_decay) == (0.0, 0.5)
    new = to_plain(published)
    assert upgrade_train(new) == new


def test_settings_of_another_kind_replace_those_of_the_layer_below() -> None:
    recipe = {"schedule": {"kind": "one_cycle", "div_factor": 10.0}, "optimizer": {"kind": "adamw", "betas": [0, 0]}}
    assert merge(recipe, {"schedule": {"kind": "cosine"}})["schedule"] == {"kind": "cosine"}
    assert merge(recipe, {"optimizer": {"weight_decay": 0.1}})["optimizer"]["kind"] == "adamw"
    same = merge(recipe, {"schedule": {"kind": "one_cycle", "warmup_fraction": 0.2}})["schedule"]
    assert same == {"kind": "one_cycle", "div_factor": 10.0, "warmup_fraction": 0.2}
    config = load_run("camera_base", "sim", 0, ["train.schedule={kind: constant}"])
    assert config.train.schedule.kind == "constant"


def test_chains_of_teachers_and_starting_weights() -> None:
    known = rows(
        row("teacher"),
        row("first", seeds=[0, 1, 2]),
        row("second", seeds=[2, 1], init={"run": "first"}),
        row("third", seeds=[1, 2], init={"run": "second"}, teacher="teacher", method={"kind": "dense"}),
        row("fixed", seeds=[5], init={"run": "first", "seed": 2, "parts": ["camera"]}),
    )
    check_chains(known, known, "runs.yaml")
    assert needed_by(known["third"], 1) == [("teacher", 0), ("second", 1)]
    assert with_needed([("third", 2)], known) == [("third", 2), ("teacher", 0), ("second", 2), ("first", 2)]
    assert awaited(known) == {"teacher", "first", "second"}
    kept = first_seeds(known, 1)
    assert {name: one.seeds for name, one in kept.items()} == {
        "teacher": (0,),
        "first": (0, 1, 2),  # 1 and 2: others start from them
        "second": (2, 1),
        "third": (1,),
        "fixed": (5,),
    }
    assert first_seeds(known, 0) == known


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"init": {"run": "frst"}}, "unknown init run 'frst'.*'first'"),
        ({"init": {"run": "first"}, "seeds": [0, 7]}, "init 'first' has no seed 7"),
        ({"init": {"run": "first", "seed": 9}}, "init 'first' has no seed 9"),
        ({"init": {"run": "second"}}, "'second' waits for itself"),
    ],
)
def test_starting_weights_that_cannot_be(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_chains(known := rows(row("first"), row("second", **change)), known, "runs.yaml")
    circle = rows(row("a", init={"run": "b"}), row("b", init={"run": "a"}))
    with pytest.raises(ConfigError, match="waits for itself"):
        check_chains(circle, circle, "runs.yaml")


def test_same_seed_or_one_seed() -> None:
    own = RowConfig(id="a", dataset="d", model="m", teacher="t", teacher_seed=(4, 5))
    assert own.init_seed_for(InitConfig(run="x"), 3) == 3
    assert own.init_seed_for(InitConfig(run="x", seed=1), 3) == 1
    assert [own.init_seed_for(InitConfig(run="t", seed="teacher"), seed) for seed in (0, 1, 2)] == [4, 5, 4]
    with pytest.raises(ValueError, match="'teacher' is that of a teacher, and the row has none"):
        replace(own, teacher=None, init=InitConfig(run="t", seed="teacher"))
    assert replace(row("a"), init=InitConfig(run="x")).init is not None
