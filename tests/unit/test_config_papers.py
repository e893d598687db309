"""Rows of papers: templates, `like`, layers of recipe and scale, controls that follow from comparisons."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from bevkd.config import load_model, load_papers, load_rows, load_run, paper_layers, paper_of
from bevkd.config.schema import ModelConfig
from bevkd.errors import ConfigError


def write(folder: Path, name: str, content: dict[str, Any]) -> None:
    (folder / "papers" / "mine" / f"{name}.yaml").write_text(yaml.safe_dump(content, sort_keys=False))


def test_rows_may_be_like_those_of_other_papers(config_copy: Path) -> None:
    runs = {
        "mine_teacher": {"like": ["lidar_base", "longer"], "doc": "mine"},
        "mine_half": {"like": "s4_lidar", "seeds": [7]},
        "mine_student": {"like": "curve_camera_double", "seeds": [7], "set": {"train": {"lr": 0.5}}},
    }
    write(config_copy, "runs", {"templates": {"longer": {"set": {"train": {"steps_factor": 3.0}}}}, "runs": runs})
    rows = load_rows()
    assert (rows["mine_teacher"].model, rows["mine_teacher"].seeds) == ("lidar_pillar", rows["lidar_base"].seeds)
    assert rows["mine_student"].set == {"train": {"steps_factor": 2.0, "lr": 0.5}}
    assert load_run("mine_teacher", "sim", 0).train.steps == 3 * load_run("lidar_base", "sim", 0).train.steps
    # What a row is like also says what it is at the published scale; how long it trains there, its own paper's recipe.
    assert load_run("mine_half", "paper", 7).data.train_stride == 2
    assert load_run("mine_teacher", "paper", 0).train.epochs == 3
    paper = paper_of("mine_teacher")
    assert paper is not None
    assert (paper.name, paper.recipe.paper) == ("mine", "bevkd")
    assert next(iter(load_papers())) == "unidistill", "what a paper prints comes before studies of our own"


def test_rows_of_two_papers_are_not_like_each_other(config_copy: Path) -> None:
    write(config_copy, "runs", {"runs": {"mine": {"like": "yours", "model": "camera"}}})
    (config_copy / "papers" / "your").mkdir()
    (config_copy / "papers" / "your" / "runs.yaml").write_text("runs: {yours: {like: mine, dataset: kitti}}")
    with pytest.raises(ConfigError, match="mine is like yours is like mine"):
        load_rows()


def test_a_recipe_lies_between_scale_and_row(config_copy: Path) -> None:
    parts = [
        {"train": {"lr": 0.1, "grad_clip": 1.0}},
        {"scales": ["sim"], "train": {"lr": 0.2}},
        {"models": ["camera"], "datasets": ["nuscenes_sim"], "train": {"grad_clip": 2.0}},
    ]
    write(config_copy, "recipe", {"paper": "Mine", "parts": parts})
    own = {"like": "lidar_base", "set": {"train": {"batch_size": 6}}, "at": {"sim": {"train": {"batch_size": 8}}}}
    write(config_copy, "runs", {"runs": {"mine_lidar": own, "mine_camera": {"like": "camera_base"}}})
    sim, smoke, camera = (
        load_run(*run, 0).train for run in (("mine_lidar", "sim"), ("mine_lidar", "smoke"), ("mine_camera", "sim"))
    )
    assert (sim.lr, sim.grad_clip, sim.batch_size) == (0.2, 1.0, 8)
    assert (smoke.lr, smoke.grad_clip, smoke.batch_size) == (0.1, 1.0, 6)
    assert (camera.lr, camera.grad_clip, camera.batch_size) == (0.2, 2.0, 4)
    layers = paper_layers(load_rows()["mine_lidar"], "sim")
    assert [(layer.label, layer.path.name) for layer in layers if layer.path] == [
        *((f"recipe of mine, part {n}", "recipe.yaml") for n in (0, 1)),
        *((label, "runs.yaml") for label in ("row mine_lidar", "row mine_lidar at sim")),
    ]
    assert load_run("lidar_base", "sim", 0).train.lr == 1.2e-2, "another paper's recipe"


def test_a_recipe_may_be_like_another_papers(config_copy: Path) -> None:
    write(config_copy, "recipe", {"like": "unidistill", "parts": [{"scales": ["paper"], "train": {"epochs": 3}}]})
    write(config_copy, "runs", {"runs": {"mine": {"like": "camera_base"}}})
    train = load_run("mine", "paper", 0).train
    assert (train.epochs, train.lr, train.batch_size) == (3, 2e-4, 20)


def test_recipes_are_like_each_other_in_a_row(config_copy: Path) -> None:
    write(config_copy, "recipe", {"like": "unidistill", "parts": [{"train": {"lr": 0.1, "grad_clip": 1.0}}]})
    write(config_copy, "runs", {"runs": {"mine": {"like": "camera_base"}}})
    (config_copy / "papers" / "next").mkdir()
    content = {"like": "mine", "parts": [{"models": ["lidar_voxel"], "train": {"lr": 0.2}}]}
    (config_copy / "papers" / "next" / "recipe.yaml").write_text(yaml.safe_dump(content))
    (config_copy / "papers" / "next" / "runs.yaml").write_text("runs: {next: {like: lidar_base, model: lidar_voxel}}")
    train = load_run("next", "paper", 0).train
    assert (train.lr, train.grad_clip, train.batch_size) == (0.2, 1.0, 20)
    labels = [layer.label for layer in paper_layers(load_rows()["next"], "smoke")]
    assert labels[:4] == [f"recipe of {name}, part 0" for name in ("unidistill", "mine", "next")] + ["row next"]
    assert load_run("mine", "paper", 0).train.lr == 0.1


def test_a_part_may_be_for_rows_of_a_recipe_further_on(config_copy: Path) -> None:
    write(config_copy, "recipe", {"parts": [{"datasets": ["kitti_sim"], "train": {"lr": 0.3}}]})
    for name, like, runs in (("second", "mine", {}), ("third", "second", {"third": {"like": "kitti_lidar"}})):
        (config_copy / "papers" / name).mkdir()
        (config_copy / "papers" / name / "recipe.yaml").write_text(yaml.safe_dump({"like": like}))
        (config_copy / "papers" / name / "runs.yaml").write_text(yaml.safe_dump({"runs": runs}))
    assert load_run("third", "smoke", 0).train.lr == 0.3


@pytest.mark.parametrize("likes", [{"mine": "mine"}, {"mine": "one", "one": "two", "two": "mine"}])
def test_recipes_are_not_like_themselves(config_copy: Path, likes: dict[str, str]) -> None:
    for name, like in likes.items():
        (config_copy / "papers" / name).mkdir(exist_ok=True)
        (config_copy / "papers" / name / "recipe.yaml").write_text(yaml.safe_dump({"like": like}))
    circle = "mine is like mine" if len(likes) == 1 else "(mine|one|two) is like (one|two|mine) is like"
    with pytest.raises(ConfigError, match=rf"recipe\.yaml: like: .*{circle}"):
        load_rows()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("recipe", {"part": []}, r"mine/recipe\.yaml: unknown key 'part' .*'parts'"),
        ("recipe", {"parts": [{"model": {}, "scale": "sim"}]}, r"mine/recipe\.yaml: parts.0.scale"),
        (
            "recipe",
            {"parts": [{"scales": ["simm"]}]},
            r"mine/recipe\.yaml: parts.0.scales: unknown name 'simm' .*'sim'",
        ),
        ("recipe", {"parts": [{"models": ["camra"]}]}, "unknown name 'camra' .*'camera'"),
        ("recipe", {"like": "unidistil"}, "unknown paper 'unidistil' .*'unidistill'"),
        ("recipe", {"parts": [{"models": ["camera"], "datasets": ["kitti"]}]}, "parts.0 is for no run"),
        ("runs", {"rnus": {}}, r"mine/runs\.yaml: unknown key 'rnus' .*'runs'"),
        ("runs", {"runs": {"lidar_base": {"model": "m"}}}, r"'lidar_base' is defined twice, also in .*unidistill"),
        ("runs", {"runs": {"x": {"like": "lidar_bas"}}}, r"run 'x': nothing is called 'lidar_bas' .*'lidar_base'"),
        (
            "runs",
            {"runs": {"x": {"like": "camera_base", "at": {"papr": {}}}}},
            "run 'x': at: unknown key 'papr' .*'paper'",
        ),
        (
            "runs",
            {"runs": {"x": {"like": "camera_base", "doc": "{loss} only"}}},
            r"run 'x': nothing says what \{loss\} is",
        ),
        ("runs", {"templates": {"x": {}}, "runs": {"x": {"like": "camera_base"}}}, "'x' is a run and a template"),
        ("claims", {"claims": []}, r"mine/claims\.yaml: unknown key 'claims'"),
    ],
)
def test_mistakes_name_file_and_key(config_copy: Path, name: str, content: dict[str, Any], message: str) -> None:
    write(config_copy, name, content)
    with pytest.raises(ConfigError, match=message):
        load_rows()


def test_controls_follow_from_comparisons(config_copy: Path) -> None:
    """One is made of the baseline, one of the arm; a comparison makes only those that it states itself."""
    write(
        config_copy,
        "runs",
        {"runs": {"mine_arm": {"like": ["unidistill_p4"]}, "mine_more": {"like": "mine_arm", "seeds": [0, 1]}}},
    )
    kinds = {
        "further": {"like": "{baseline}", "set": {"train": {"steps_factor": 4.0}}, "doc": "{student} trained on"},
        "own": {"like": "{arm}", "teacher": "camera_base", "doc": "{student} to {student}"},
    }
    first = {"runs": {"arm": "mine_arm", "baseline": "camera_base", "further": "mine_further", "own": "mine_c_to_c"}}
    second = {"like": "first", "runs": {"arm": "mine_more", "baseline": "camera_depth", "own": "mine_more_c_to_c"}}
    comparisons = {"first": first | {"words": {"student": "C"}}, "second": second}
    write(config_copy, "claims", {"controls": kinds, "comparisons": comparisons})
    rows = load_rows()
    assert rows["mine_further"].set == {"train": {"steps_factor": 4.0}}
    assert (rows["mine_further"].teacher, rows["mine_further"].doc) == (None, "C trained on")
    assert (rows["mine_c_to_c"].teacher, rows["mine_c_to_c"].method) == ("camera_base", rows["unidistill_p4"].method)
    assert rows["mine_more_c_to_c"].seeds == (0, 1)
    found = load_papers()["mine"].comparisons["second"]
    assert found.controls == {"further": "mine_further", "own": "mine_more_c_to_c"}

    clash = comparisons | {"third": {"like": "second", "runs": {"further": "mine_further"}}}
    write(
        other := shutil.copytree(config_copy, config_copy.parent / "other"),
        "claims",
        {"controls": kinds, "comparisons": clash},
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BEVKD_CONFIG", str(other))
        with pytest.raises(ConfigError, match="control 'mine_further' is made in two ways"):
            load_rows()


def test_a_narrow_model_is_one_line_at_every_scale(config_copy: Path) -> None:
    """PointDistiller's students: channels divided by 1.4, rounded down as theirs are; layers kept, never added."""
    narrow = {"like": "lidar_pillar", "width": 0.7143}
    deeper = {"like": "narrow", "width": 0.5, "layers": [1, 9, 9], "model": {"head": {"branch_channels": 5}}}
    for name, content in (("narrow", narrow), ("deeper", deeper)):
        (config_copy / "models" / f"{name}.yaml").write_text(yaml.safe_dump(content))
    runs = {"half": {"like": "lidar_base", "model": "narrow"}, "quarter": {"like": "lidar_base", "model": "deeper"}}
    write(config_copy, "recipe", {"like": "unidistill"})
    write(config_copy, "runs", {"runs": runs})
    for scale in ("smoke", "sim", "paper"):
        whole, half, quarter = (load_run(run, scale, 0).model for run in ("lidar_base", "half", "quarter"))
        for part, key in (("lidar", "channels"), ("bev", "widths")):
            old, new = getattr(getattr(whole, part), key), getattr(getattr(half, part), key)
            assert new == tuple(max(1, int(c * 0.7143)) for c in old)
            assert getattr(getattr(quarter, part), key) == tuple(max(1, int(c * 0.5)) for c in new)
        assert half.bev.depths == whole.bev.depths
        assert quarter.bev.depths == tuple(map(min, (1, 9, 9), whole.bev.depths))
        assert quarter.head.branch_channels == 5
        assert (half.grid, half.bev.strides, half.lidar.max_points) == (
            whole.grid,
            whole.bev.strides,
            whole.lidar.max_points,
        )
    paper = load_run("half", "paper", 0).model
    assert paper.bev.widths == (91, 182)
    assert paper.lidar.channels == (11, 22, 45, 91), "of the voxels that the recipe says for what it is like"
    assert load_run("half", "sim", 0).model.head.branch_channels == 0, "a layer that is not there"


def test_bad_models(config_copy: Path) -> None:
    for name, content, message in (
        ("a", {"width": 0.5}, "like another"),
        ("b", {"like": "b"}, "b is like b"),
        ("c", {"like": "lidar_pillar", "widht": 0.5}, r"c\.yaml: widht: unknown key .*'width'"),
        ("d", {"like": "lidar_pilar"}, "no such config file.*'lidar_pillar'"),
        ("e", {"like": "lidar_pillar", "layers": [1]}, "stages"),
    ):
        (config_copy / "models" / f"{name}.yaml").write_text(yaml.safe_dump(content))
        with pytest.raises(ConfigError, match=message):
            load_model(name, "sim")
    assert ModelConfig().bev.depths == (5, 5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("templates: 3\nruns: {}\n", "templates: wants a mapping"),
        ("defaults: [a]\nruns: {}\n", "defaults: wants a mapping"),
        ("templates: {a: b}\nruns: {}\n", "template 'a': wants a mapping"),
    ],
)
def test_parts_of_runs_are_mappings(config_copy: Path, text: str, message: str) -> None:
    (config_copy / "papers" / "mine" / "runs.yaml").write_text(text)
    with pytest.raises(ConfigError, match=f"mine/runs.yaml: {message}"):
        load_rows()


def test_nothing_behind_a_key_is_nothing(config_copy: Path) -> None:
    text = "defaults:\ntemplates:\nruns: {own: {like: camera_base}}\n"
    (config_copy / "papers" / "mine" / "runs.yaml").write_text(text)
    assert load_rows()["own"].model == "camera"
