"""How layers make a run, where its settings come from, and what a stage's settings say of mistakes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import yaml
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from bevkd import registry
from bevkd.cli import main
from bevkd.config import config_dir, identity, load_model, load_run, merge, stored_run
from bevkd.config.compose import _sections
from bevkd.config.explain import Source, explain
from bevkd.config.slots import all_places
from bevkd.config.stages import Stage, default_stage
from bevkd.errors import ConfigError
from bevkd.models.camera.compensation.attention_settings import AttentionSettings
from bevkd.models.camera.compensation.conv_settings import ConvSettings
from bevkd.models.camera.compensation.deform_conv_settings import DeformConvSettings
from bevkd.models.camera.lss_settings import LSSSettings
from bevkd.models.camera.view.sample_settings import SampleSettings
from bevkd.models.heads.transfusion_settings import TransFusionLossSettings
from bevkd.models.lidar.voxel_settings import VoxelSettings


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class CompensatedSettings(LSSSettings):
    """A camera encoder that has one slot at two places."""

    kind: Literal["compensated"] = "compensated"  # type: ignore[assignment]
    first: Annotated[Any, Stage("compensation", "attention", optional=True)] = None
    second: Annotated[Any, Stage("compensation", "attention", optional=True)] = default_stage(
        "compensation", "attention"
    )


def test_another_kind_begins_anew() -> None:
    pillar = {"lidar": {"kind": "pillar", "cell": 0.4, "mean_age": True}}
    assert merge(pillar, {"lidar": {"cell": 0.2}}) == {"lidar": {"kind": "pillar", "cell": 0.2, "mean_age": True}}
    assert merge(pillar, {"lidar": {"kind": "pillar", "cell": 0.2}})["lidar"]["mean_age"]
    assert merge(pillar, {"lidar": {"kind": "voxel", "cell": 0.2}}) == {"lidar": {"kind": "voxel", "cell": 0.2}}
    assert merge({"lidar": {"cell": 0.2}}, {"lidar": {"kind": "voxel"}}) == {"lidar": {"cell": 0.2, "kind": "voxel"}}


@pytest.mark.parametrize("scale", ["smoke", "sim"])
def test_a_row_that_goes_back_to_a_kind_finds_what_the_scale_says_of_it(scale: str) -> None:
    """The small scales narrow the two-branch student to a ResNet; its row with Swin had the published size."""
    model, _ = load_model("camera_swin", scale)
    student = load_run("simdistill_swin_student", scale, 0).model.camera.backbone
    assert student == model.camera.backbone
    assert student.options["embed_dim"] < 96
    assert load_run("simdistill_student", scale, 0).model.camera.backbone.kind == "resnet"


def test_an_optional_stage_that_comes_back_is_that_of_the_scale(compensated: Path) -> None:
    own = AttentionSettings(heads=4, points=6, table=(2, 3))
    file = compensated / "scales" / "smoke.yaml"
    scale = yaml.safe_load(file.read_text())
    scale["models"]["compensated"] = {"model": {"camera": {"second": None}}}
    file.write_text(yaml.safe_dump(scale))
    assert load_model("compensated", "smoke")[0].camera.second is None
    model, _ = load_model("compensated", "smoke", changes={"camera": {"second": {"kind": "attention", "heads": 2}}})
    assert model.camera.second == replace(own, heads=2)


def test_a_scale_says_of_each_stage_what_its_kind_wants() -> None:
    model, _ = load_model("lidar_voxel", "sim")
    assert model.lidar == VoxelSettings(
        cell=0.4,
        z_cell=0.4,
        channels=(8, 16),
        max_points=0,
        max_voxels=0,
        out_channels=32,
        intensity_scale=0.003921569,
        normalise=True,
        dt_scale=5.0,
    )
    assert (model.camera, model.radar, model.fuser) == (None, None, None)
    changed, _ = load_model("camera", "sim", changes={"camera": {"view": {"kind": "sample", "heights": 3}}})
    assert changed.camera.view == SampleSettings(heights=3)
    queries, _ = load_model("lidar_pillar", "sim", changes={"head": {"kind": "transfusion"}})
    assert queries.loss == TransFusionLossSettings(velocity_weight=0.4)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("model.lidar.chanels=[8]", "model.lidar.chanels: unknown key .did you mean 'channels'"),
        ("model.lidar.z_cell=0.2", "model.lidar.z_cell: unknown key"),
        ("model.loss.heatmap_wieght=2.0", "model.loss.heatmap_wieght: unknown key .did you mean 'heatmap_weight'"),
        ("model.lidar.kind=pilar", "unknown lidar_encoder 'pilar' .did you mean 'pillar'"),
        ("model.lidar.cell=near", "model.lidar.cell: Input should be a valid number"),
        ("model.lidar=3", "model.lidar: settings of a group are a mapping"),
        ("data.lidar_sweep=3", "data.lidar_sweep: unknown key .did you mean 'lidar_sweeps'"),
        ("trian.lr=1.0", "trian: unknown key .did you mean 'train'"),
        ("model.camera.stride=4", "--set sets model.camera, but the model has no such stage"),
    ],
)
def test_a_mistake_names_its_place_and_the_nearest_key(setting: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_run("lidar_base", "smoke", 0, [setting])


@pytest.mark.parametrize("where", ["set", "at"])
def test_a_row_is_for_its_own_stages_only(config_copy: Path, where: str) -> None:
    """Layers of scale, model, data set and recipe may speak of stages that a model has not; a row may not."""
    settings = {"model": {"camera": {"stride": 4}}}
    row = {"like": "lidar_base", where: settings if where == "set" else {"smoke": settings}}
    (config_copy / "papers" / "mine" / "recipe.yaml").write_text(yaml.safe_dump({"parts": [settings]}))
    (config_copy / "papers" / "mine" / "runs.yaml").write_text(
        yaml.safe_dump({"runs": {"mine": row, "plain": {"like": "lidar_base"}}})
    )
    assert load_run("plain", "smoke", 0).model.camera is None
    label = "row mine" if where == "set" else "row mine at smoke"
    with pytest.raises(ConfigError, match=f"run 'mine': {label} sets model.camera, but the model has no such stage"):
        load_run("mine", "smoke", 0)


def test_every_mistake_is_named_at_once() -> None:
    with pytest.raises(ConfigError, match=r"lidar\.celll.*lidar\.chanels"):
        load_run("lidar_base", "smoke", 0, ["model.lidar.celll=1", "model.lidar.chanels=1"])


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ({"lidr": {"pillar": {"cell": 0.4}}}, r"smoke\.yaml: stages: unknown stage 'lidr' .did you mean 'lidar'"),
        (
            {"lidar": {"pilar": {"cell": 0.4}}},
            r"stages\.lidar: unknown lidar_encoder 'pilar' .did you mean 'pillar'",
        ),
        ({"decode": {"centre": {}}}, r"stages\.decode: unknown decode 'centre' .did you mean 'center'"),
    ],
)
def test_a_scale_speaks_of_stages_that_exist(config_copy: Path, stages: dict[str, Any], message: str) -> None:
    file = config_copy / "scales" / "smoke.yaml"
    content = yaml.safe_load(file.read_text())
    content["stages"] |= stages
    file.write_text(yaml.safe_dump(content))
    with pytest.raises(ConfigError, match=message):
        load_run("lidar_base", "smoke", 0)


@pytest.fixture
def compensated(config_copy: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A model whose camera encoder has one slot at two places, and a scale that speaks of them."""
    registry.names("camera_encoder")
    known = {**registry._SETTINGS["camera_encoder"], "compensated": CompensatedSettings}
    monkeypatch.setitem(registry._SETTINGS, "camera_encoder", known)
    all_places.cache_clear()
    _sections.cache_clear()
    content = {"model": {"sensors": ["camera"], "camera": {"kind": "compensated"}}}
    (config_copy / "models" / "compensated.yaml").write_text(yaml.safe_dump(content))
    file = config_copy / "scales" / "smoke.yaml"
    scale = yaml.safe_load(file.read_text())
    attention = {"heads": 4, "points": 3, "table": [2, 3]}
    scale["stages"] |= {"compensation": {"attention": attention, "deform_conv": {"hidden": 5}}}
    scale["stages"] |= {"second": {"attention": {"points": 6}}}
    file.write_text(yaml.safe_dump(scale))
    yield config_copy
    all_places.cache_clear()
    _sections.cache_clear()


def test_a_slot_with_several_places(compensated: Path) -> None:
    """What a scale says of a slot holds wherever the stage is; what it says of a key, there."""
    own = AttentionSettings(heads=4, points=3, table=(2, 3))

    def found(**camera: Any) -> tuple[Any, Any]:
        model, _ = load_model("compensated", "smoke", changes={"camera": camera} if camera else None)
        return model.camera.first, model.camera.second

    second = replace(own, points=6)
    assert found() == (None, second)
    assert found(first={}) == (own, second)
    assert found(first={"points": 7}, second={"heads": 2}) == (replace(own, points=7), replace(second, heads=2))
    assert found(second=None) == (None, None)
    assert found(first={"kind": "deform_conv"}, second={"kind": "conv"}) == (
        DeformConvSettings(hidden=5),
        ConvSettings(),
    )
    # Encoders without these stages hear nothing of them.
    assert load_run("camera_base", "smoke", 0).model.camera.kind == "lss"
    with pytest.raises(ConfigError, match=r"first: settings of a stage are a mapping"):
        found(first=3)


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ({"compensation": {"attentoin": {}}}, r"stages\.compensation: unknown compensation 'attentoin'"),
        ({"secnd": {"attention": {}}}, r"unknown stage 'secnd' .did you mean 'second'"),
    ],
)
def test_a_slot_with_several_places_is_spelt_right(compensated: Path, stages: dict[str, Any], message: str) -> None:
    test_a_scale_speaks_of_stages_that_exist(compensated, stages, message)


def test_explain_names_file_and_line_of_every_layer() -> None:
    value, sources = explain("camera_base", "sim", 0, "train.lr", ["train.lr=0.5"])
    assert value == 0.5
    assert [source.label for source in sources] == ["scale sim", "scale sim, model camera", "--set"]
    for source in sources[:-1]:
        assert source.path is not None
        assert source.line is not None
        line = source.path.read_text().splitlines()[source.line - 1]
        assert "lr:" in line
        assert f"{source.value:.1e}"[:3] in line
    value, (stage,) = explain("lidar_base", "sim", 0, "model.lidar.mean_age")
    assert value is True
    assert stage.path is not None
    assert "mean_age: true" in stage.path.read_text().splitlines()[(stage.line or 0) - 1]
    value, (default,) = explain("lidar_base", "sim", 0, "train.log_every")
    assert (value, default.label, default.path) == (10, "default of the code", None)
    with pytest.raises(ConfigError, match=r"train has no setting 'lrr' .did you mean 'lr'"):
        explain("lidar_base", "sim", 0, "train.lrr")


def places(sources: list[Source]) -> list[tuple[str, str]]:
    """Label and written line of each source."""
    out = []
    for source in sources:
        lines = source.path.read_text().splitlines() if source.path else []
        out.append((source.label, lines[source.line - 1].strip() if source.line else ""))
    return out


def test_explain_finds_parts_of_recipes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "--run", "unidistill_p4", "--scale", "paper", "--explain", "train.lr"]) == 0
    value, *lines = capsys.readouterr().out.splitlines()
    assert value == "train.lr = 0.0002"
    recipe = (config_dir() / "papers" / "unidistill" / "recipe.yaml").read_text().splitlines()
    for line, part, written in zip(lines, (1, 3), ("lr: 1.0e-3", "train: {lr: 2.0e-4}"), strict=True):
        label, number = re.fullmatch(r"  [\d.]+  (.*)  .*/unidistill/recipe\.yaml:(\d+)", line).groups()  # type: ignore[union-attr]
        assert label == f"recipe of unidistill, part {part}"
        assert written in recipe[int(number) - 1]
    # By an alias, and by a mapping that is merged in: where it is written.
    for run in ("lidar_base", "s3_fusion"):
        _, sources = explain(run, "paper", 0, "model.lidar.max_points")
        assert "max_points: 10" in places(sources)[-1][1]


def test_explain_lists_what_takes_a_setting_away(config_copy: Path) -> None:
    runs = {
        "mine": {"like": "scratch_p2", "teacher": None, "method": None},
        "round": {"like": "lidar_base", "set": {"model": {"grid": {"x": None}}}},
        "wrong": {"like": "camera_base", "set": {"data": {"augment": None}}},
    }
    (config_copy / "papers" / "mine" / "runs.yaml").write_text(yaml.safe_dump({"runs": runs}))
    value, sources = explain("mine", "sim", 0, "row.teacher")
    assert value is None
    assert [(source.label, source.value) for source in sources] == [
        ("row mine, like row scratch_p2", "fusion_base"),
        ("row mine", None),
    ]
    assert places(sources)[1][1] == "teacher: null"
    value, sources = explain("round", "sim", 0, "model.grid.x")
    assert value is None
    assert (sources[-1].label, places(sources)[-1][1]) == ("row round", "x: null")
    with pytest.raises(ConfigError, match=r"row wrong: .*mine/runs\.yaml: data\.augment: settings of a group"):
        load_run("wrong", "sim", 0)


def test_explain_says_what_a_row_says_itself() -> None:
    value, sources = explain("unidistill_p4", "paper", 0, "row.teacher")
    assert value == "lidar_base"
    ((label, line),) = places(sources)
    assert (label, line.partition(":")[0]) == ("row unidistill_p4", "unidistill_p4")
    value, (scale,) = explain("unidistill_p4", "paper", 0, "row.teacher_mode")
    assert (value, scale.label, places([scale])[0][1]) == ("live", "scale paper", "teacher_mode: live")
    _, (default,) = explain("unidistill_p4", "sim", 0, "row.teacher_mode")
    assert default.label == "default of the code"
    for key in ("row.id", "seed"):
        assert explain("unidistill_p4", "sim", 0, key)[1][0].label == "says which run it is"


def test_explain_follows_like_templates_families_and_controls() -> None:
    # A template, a row that is like it, a control that follows from a comparison, and an entry of a family.
    _, sources = explain("camera_depth", "sim", 0, "row.set.model.camera.depth_weight")
    assert [(label, line.split(":")[0]) for label, line in places(sources)] == [
        ("row camera_depth, like template depth", "depth")
    ]
    _, sources = explain("unidistill_l_to_l", "sim", 0, "row.teacher")
    first, second = places(sources)
    assert (first[0], first[1].split(":")[0]) == ("row unidistill_l_to_l, like row unidistill_p1", "unidistill_p1")
    assert (second[0], second[1].split(":")[0]) == ("row unidistill_l_to_l", "own")
    assert (sources[1].path or Path()).name == "claims.yaml"
    _, sources = explain("s6_feature_adapt", "sim", 0, "row.method.options.weights.response")
    assert "relation" not in places(sources)[-1][0]
    assert places(sources)[-1][1].startswith('method: {options: {weights: {"{other}": 0, response: 0}')
    _, sources = explain("s6_base", "paper", 0, "model.loss.auto_scaling")
    assert [(label, line.split(":")[0]) for label, line in places(sources)] == [
        ("row s6_base, like template tables_s6_s7 at paper", "tables_s6_s7")
    ]
    _, sources = explain("unidistill_p4", "sim", 0, "row.seeds")
    assert places(sources)[0][0] == "row unidistill_p4, defaults of unidistill"
    assert places(sources)[0][1].startswith("defaults: {")


@pytest.mark.parametrize("key", ["train.steps", "train.epochs"])
def test_explain_says_what_multiplies_the_length(key: str) -> None:
    value, (*_, length, factor) = explain("camera_full", "sim", 0, key)
    assert value == length.value * factor.value
    assert factor.label == "row camera_full, like row curve_camera_double: multiplies train.steps and train.epochs"
    assert "steps_factor: 2.0" in places([factor])[0][1]
    _, (again,) = explain("camera_full", "sim", 0, "train.steps_factor")
    assert again == factor


def test_another_kind_ends_what_was_said_before(config_copy: Path) -> None:
    lidar = ({"kind": "pillar", "cell": 0.7}, {"kind": "voxel"}, {"channels": [4, 8]})
    parts = [{"model": {"lidar": part}} for part in lidar]
    (config_copy / "papers" / "mine" / "recipe.yaml").write_text(yaml.safe_dump({"parts": parts}))
    (config_copy / "papers" / "mine" / "runs.yaml").write_text("runs: {mine: {like: lidar_base}}")
    _, sources = explain("lidar_base", "paper", 0, "model.lidar.cell")
    assert [source.label for source in sources] == ["recipe of unidistill, part 4"], "the scale speaks of pillars"
    value, (default,) = explain("mine", "sim", 0, "model.lidar.cell")
    assert (value, default.label) == (0.4, "scale sim, lidar voxel")
    _, sources = explain("mine", "sim", 0, "model.lidar")
    assert [source.label for source in sources] == [
        "scale sim, lidar voxel",
        "recipe of mine, part 1",
        "recipe of mine, part 2",
    ]
    _, sources = explain("mine", "sim", 0, "model.lidar.kind")
    assert [source.value for source in sources][-3:] == ["pillar", "voxel", "voxel"], "the kind itself is said by all"


def test_the_command_prints_settings_and_places(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "--run", "lidar_base", "--scale", "smoke", "--set", "train.steps=7"]) == 0
    assert "  steps: 7\n" in capsys.readouterr().out
    assert main(["config", "--run", "lidar_base", "--scale", "smoke", "--explain", "train.steps"]) == 0
    assert "smoke.yaml:" in capsys.readouterr().out
    assert main(["config", "--run", "lidar_base", "--identity"]) == 0
    assert "image_mean" not in capsys.readouterr().out


def test_settings_of_earlier_versions_are_read() -> None:
    """The file holds, by run, settings as an earlier version stored them, and the identity that they had then."""
    old = json.loads((Path(__file__).parents[1] / "golden" / "stored_run.json").read_text())
    for run, (plain, then) in old.items():
        assert "encoder" in plain["model"]["lidar"]
        assert "bn_eps" in plain["model"]["bev"]
        assert identity(stored_run(plain, run)) == then, run
