"""No field of settings is a bare number or text: a walk over all classes of settings, and values beyond the ends."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, get_args

import pytest
from pydantic import TypeAdapter

from bevkd import registry
from bevkd.config import RunConfig, load_run, parse
from bevkd.config.comparisons import Comparison
from bevkd.config.models import ModelFile
from bevkd.config.recipe import Recipe
from bevkd.config.scale import ScaleConfig
from bevkd.config.stages import Part, Stage
from bevkd.config.workflow import WorkflowConfig
from bevkd.errors import ConfigError
from bevkd.eval.waymo.overlap import LetConfig
from bevkd.report.figure_kinds import FigureConfig
from bevkd.report.pages import PaperPage
from bevkd.report.spec import ClaimConfig, TableConfig

OF_FILES = (RunConfig, Comparison, ModelFile, Recipe, ScaleConfig, WorkflowConfig, PaperPage, TableConfig, ClaimConfig)
SLOTS = (
    *("method", "lidar_encoder", "camera_encoder", "fuser", "image_backbone", "depth_net", "view_transform"),
    "compensation",
    *("bev_encoder", "head", "loss", "decode", "optimizer", "schedule"),
)
# Keys of these are settings of other classes, which are parsed by those.
FREE = {"set", "model", "data", "train", "common", "stages", "datasets", "models", "methods", "words", "options"}


def settings_classes() -> dict[str, type]:
    found = {cls.__name__: cls for cls in (*OF_FILES, LetConfig, *get_args(FigureConfig))}
    for slot in SLOTS:
        names = registry.names(slot)
        assert names
        found |= {f"{slot} {name}": registry.settings(slot, name) for name in names}
    return {name: cls for name, cls in found.items() if cls is not registry.NoSettings}


CLASSES = settings_classes()


def leaves(schema: Any, definitions: dict[str, Any], at: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Place and schema of everything in a core schema that holds no other."""
    if isinstance(schema, list):
        for one in schema:
            yield from leaves(one, definitions, at)
        return
    if not isinstance(schema, dict):
        return
    if schema.get("type") == "dataclass-field":
        at = f"{at}.{schema['name']}"
    if schema.get("type") == "definition-ref":
        yield from leaves(definitions[schema["schema_ref"]], {}, at)
        return
    other = ("metadata", "serialization", "expected", "config")
    inner = {key: value for key, value in schema.items() if isinstance(value, dict | list) and key not in other}
    if schema.get("type") in ("int", "float", "str", "any", "bytes", "decimal"):
        yield at, schema
    for value in inner.values():
        yield from leaves(value, definitions, at)


def fields_of(cls: type) -> list[tuple[str, dict[str, Any]]]:
    schema = TypeAdapter(cls).core_schema
    definitions = {one["ref"]: one for one in schema.get("definitions", ())}
    return list(leaves(schema, definitions))


@pytest.mark.parametrize("name", CLASSES)
def test_numbers_have_a_range_and_texts_a_form(name: str) -> None:
    for at, leaf in fields_of(CLASSES[name]):
        if leaf["type"] in ("int", "float"):
            both = leaf.keys() & {"ge", "gt"} and leaf.keys() & {"le", "lt"}
            assert both, f"{name}{at}: a number needs both ends of its range, see bevkd.config.bounds"
        elif leaf["type"] == "any":
            assert at.rpartition(".")[2] in FREE or is_part(CLASSES[name], at), f"{name}{at}: any value is taken"
        else:
            assert (leaf["type"], "pattern" in leaf) == ("str", True), (
                f"{name}{at}: text needs a form: a Literal for an enumeration, or a Name, PathText, Words of"
                " bevkd.config.bounds"
            )


def is_part(cls: type, at: str) -> bool:
    """Whether a field is parsed by what another field names."""
    return cls is RunConfig and at in (".model.loss", ".model.decode") and bool(Part)


def test_the_walk_sees_what_it_is_for() -> None:
    found = {at for at, _ in fields_of(RunConfig)}
    assert {".seed", ".model.grid.cell", ".train.lr", ".data.root", ".row.init.run", ".data.augment.bev.scale"} <= found
    bare = TypeAdapter(dict[str, int]).core_schema
    assert [leaf["type"] for _, leaf in leaves(bare, {})] == ["str", "int"]
    assert not any(leaf.keys() & {"ge", "pattern"} for _, leaf in leaves(bare, {}))


@pytest.mark.parametrize("name", CLASSES)
def test_defaults_are_within_their_bounds(name: str) -> None:
    """Defaults are not validated when a class is made; here they are."""
    adapter: TypeAdapter[Any] = TypeAdapter(CLASSES[name])
    try:
        made = CLASSES[name]()
    except Exception:  # some fields have no default
        return
    assert adapter.validate_python(adapter.dump_python(made, mode="json")) == made


@pytest.mark.parametrize(
    "override",
    [
        *("train.threads=100000", "train.threads=0", "train.workers=100000", "train.batch_size=1000000"),
        *("train.batch_size=0", "train.lr=.nan", "train.lr=.inf", "train.lr=-1", "train.lr=1e999", "train.steps=1e30"),
        *("train.grad_clip=-1", "train.optimizer.betas=[0.9, 1.0]", "train.optimizer.betas=[-0.1, 0.9]"),
        *("train.optimizer.weight_decay=-1", "train.optimizer.weight_decay=.inf", "train.order=-1"),
        *("train.frames_limit=-1", "train.reference_batch=-5", "train.steps_factor=0", "train.accumulate=0"),
        *("model.grid.cell=0", "model.grid.cell=1e-9", "model.grid.z_min=9", "model.grid.reach=.inf"),
        *("model.grid.x=[5, -5]", "model.lidar.cell=-1", "model.lidar.point_features=0", "model.lidar.channels=[]"),
        *("model.lidar.channels=[64, 0]", "model.lidar.max_points=-1", "model.bev.widths=[]", "model.bev.strides=[0]"),
        *("model.bev.up_channels=1000000", "model.norm.eps=0", "model.norm.momentum=2", "model.sensors=[]"),
        *("model.sensors=[lidar, lidar]", "model.kind=nonsense", "model.head.tasks=[]", "model.head.tasks=[[]]"),
        *("model.head.tasks=[[car], [car]]", "model.head.tasks=[[dog]]", "model.decode.top_k=0"),
        *("model.decode.top_k=-5", "model.decode.score_threshold=1.5", "model.decode.nms_iou=-1"),
        *("model.decode.local_max=2", "model.loss.heatmap_weight=-1", "model.loss.heatmap_weight=.nan"),
        *("data.classes=[]", "data.classes=[car, car]", "data.classes=[dog]", "data.classes=", "data.min_points=-1"),
        *("data.max_range=-1", "data.lidar_sweeps=100000", "data.image_std=[0, 1, 1]", "data.image_mean=[-1, 0, 0]"),
        *("data.augment.image.flip=2", "data.augment.bev.scale=[2, 1]", "data.augment.bev.scale=[0, 1]"),
        *("data.augment.bev.rotate_deg=-5", "data.augment.bev.translate_std=-1", "data.augment.variants=1000000"),
        *("data.augment.gt_paste={dog: 1}", "data.augment.gt_paste={car: -1}", "data.kind=nonsense", "data.version="),
        *("data.version=../..", "data.version='a/b'", "data.report_split=../val", 'data.root="a\\0b"', "data.root=''"),
        *('data.index="a\\nb"', "data.train_split=''", "data.store_gb=-1", "train.precision=fp8"),
    ],
)
def test_what_is_out_of_range_is_an_error_of_one_line(override: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_run("lidar_base", "smoke", 0, [override])
    assert "\n" not in str(caught.value)
    assert override.partition("=")[0].rpartition(".")[2] in str(caught.value)


@pytest.mark.parametrize(
    "override",
    ["model.camera.image_size=[0, 5]", "model.camera.image_size=[100000, 5]", "model.camera.stride=0",
     "model.camera.view.depth_step=0", "model.camera.view.depth_step=1e-6", "model.camera.neck_channels=0"],
)  # fmt: skip
def test_cameras_have_bounds(override: str) -> None:
    with pytest.raises(ConfigError):
        load_run("camera_base", "smoke", 0, [override])


@pytest.mark.parametrize("seed", [-1, 2**32, 10**30])
def test_seeds_fit_a_generator(seed: int) -> None:
    with pytest.raises(ConfigError, match="seed"):
        load_run("lidar_base", "smoke", seed)


@pytest.mark.parametrize("value", ["5", "null", "[1]", "''"])
@pytest.mark.parametrize(
    "key",
    ["train", "data", "model", "model.lidar", "model.grid", "model.head", "model.bev", "model.loss", "model.decode",
     "model.norm", "train.optimizer", "train.schedule", "data.augment", "data.augment.bev"],
)  # fmt: skip
def test_no_value_drops_a_section(key: str, value: str) -> None:
    """Also not where a later override speaks of the section again."""
    for more in ([], [f"{key}.nothing=1"], [f"{key}={{}}"], ["train.steps=3"]):
        with pytest.raises(ConfigError) as caught:
            load_run("lidar_base", "smoke", 0, [f"{key}={value}", *more])
        assert "\n" not in str(caught.value)
        assert key in str(caught.value)


@pytest.mark.parametrize("override", ["model.head.kind=[1]", "model.head.kind={}", "model.sensors=5", "a..b=5", ".=1"])
def test_what_is_no_setting_is_an_error(override: str) -> None:
    with pytest.raises(ConfigError):
        load_run("lidar_base", "smoke", 0, [override])


def test_stages_that_must_be_there_are_not_none() -> None:
    plain = {"run": "a", "scale": "smoke", "seed": 0, "row": {"id": "a", "dataset": "b", "model": "c"}}
    assert parse(RunConfig, plain, "here").model.camera is None
    for section, name in (("train", "optimizer"), ("train", "schedule"), ("model", "head"), ("model", "bev")):
        with pytest.raises(ConfigError, match=f"{section}.{name}"):
            parse(RunConfig, plain | {section: {name: None}}, "here")
    assert Stage("fuser", "concat", optional=True).parse(None) is None


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_in_no_range(bad: float) -> None:
    for name, cls in CLASSES.items():
        for at, leaf in fields_of(cls):
            if leaf["type"] == "float":
                low = bad > leaf["gt"] if "gt" in leaf else bad >= leaf["ge"]
                high = bad < leaf["lt"] if "lt" in leaf else bad <= leaf["le"]
                assert not (low and high), f"{name}{at}"
