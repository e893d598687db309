"""From a run's name to its settings: layers of plain data, of which later ones win.

Data set, model, scale (common, by stage, by data set, by model), recipe of the paper, what narrower models change, row,
row at the scale, `--set`. What no layer says is a default of the code.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from bevkd import registry
from bevkd.config.chain import check_chains, find_row
from bevkd.config.classes import normalised_layer
from bevkd.config.load import load_scale, parse_override
from bevkd.config.models import compression, lineage, read_model
from bevkd.config.papers import load_papers, load_rows
from bevkd.config.places import ConfigTree, config_tree
from bevkd.config.plain import Layer, merge, parse, read_mapping, to_plain
from bevkd.config.rows import recipe_init, recipe_layers, row_layers
from bevkd.config.scale import ScaleConfig
from bevkd.config.schema import ENCODERS, FUSER, DataConfig, ModelConfig, RowConfig, RunConfig
from bevkd.config.settings import override_advice
from bevkd.config.stages import Stage
from bevkd.config.weights import check_weights_said
from bevkd.errors import ConfigError, nearest

# Where a stage's settings stand in `model`, and which stage it is, with the kind that is meant if unsaid.
SLOTS: dict[str, tuple[tuple[str, ...], Stage]] = {
    **{name: ((name,), stage) for name, stage in ENCODERS.items()},
    "backbone": (("camera", "backbone"), Stage("image_backbone", "resnet")),
    "depth_net": (("camera", "depth_net"), Stage("depth_net", "conv")),
    "view": (("camera", "view"), Stage("view_transform", "lift_splat")),
    "fuser": (("fuser",), FUSER),
    "bev": (("bev",), Stage("bev_encoder", "second_fpn")),
    "head": (("head",), Stage("head", "center")),
}
# Keys of groups of settings, which no value takes the place of.
SECTIONS = frozenset(
    (
        *(("train",), ("data",), ("model",)),
        *(("train", "optimizer"), ("train", "schedule")),
        *(("data", "augment"), ("data", "augment", "image"), ("data", "augment", "bev")),
        *(("model", name) for name in ("grid", "norm", "loss", "decode")),
        *(("model", *where) for where, _ in SLOTS.values()),
    )
)
# A head's loss and decoding are of its kind and do not name one themselves.
_OF_HEAD = ("loss", "decode")


def row_of(run: str, scale: str) -> RowConfig:
    """The row of a run, as a scale has it.

    Raises:
        ConfigError: unknown run or scale.
    """
    return _at(find_row(run, load_rows()), scale)


def _at(row: RowConfig, scale: str) -> RowConfig:
    said = tuple(replace(init, scales=()) for init in row.inits if not init.scales or scale in init.scales)
    if row.init is None or (row.inits and not said):
        init = recipe_init(row, scale)
    else:
        init = said[0] if len(said) == 1 else said or None
    # What is another run there is made for whatever names it: nothing does.
    target = "demand" if scale in row.same_as else row.target
    mode = load_scale(scale).teacher_mode or row.teacher_mode
    return replace(row, teacher_mode=mode, init=init, target=target)


def rows_at(scale: str) -> dict[str, RowConfig]:
    """All rows by run id, as a scale and the recipes have them there.

    Raises:
        ConfigError: as `load_rows`; unknown scale; weights to start from that no run has.
    """
    return _rows_at(config_tree(), scale)


@cache
def _rows_at(_tree: ConfigTree, scale: str) -> dict[str, RowConfig]:
    rows = {run: _at(row, scale) for run, row in load_rows().items()}
    for paper in load_papers().values():
        check_chains({run: rows[run] for run in paper.rows}, rows, str(paper.file("recipe")))
    return rows


@cache
def _dataset(file: Path) -> dict[str, Any]:
    return dict(read_mapping(file))


def layers(row: RowConfig, scale: str, overrides: Sequence[str] = ()) -> list[Layer]:
    """All layers of a run, in order.

    Raises:
        ConfigError: unknown scale, model or data set; an override that is no setting.
    """
    tree, settings = config_tree(), load_scale(scale)
    file, dataset = tree.named("scales", scale), tree.named("datasets", row.dataset)
    root, *narrower = reversed(lineage(tree, row.model))
    before = [
        Layer(f"data set {row.dataset}", _dataset(dataset), dataset),
        Layer(f"model {root}", read_model(tree, root).settings, tree.named("models", root)),
        Layer(f"scale {scale}", settings.common, file, ("common",)),
    ]
    of_dataset = settings.datasets.get(row.dataset) or {}
    after = [
        Layer(f"scale {scale}, data set {row.dataset}", of_dataset, file, ("datasets", row.dataset)),
        Layer(f"scale {scale}, model {root}", settings.models.get(root) or {}, file, ("models", root)),
        *recipe_layers(row, scale),
    ]
    last = [*row_layers(row, scale), *(Layer("--set", parse_override(text), of_run=True) for text in overrides)]
    own = [layer for name in narrower for layer in _own(name, settings, scale, file)]
    # Only with all of them it is known which kinds are chosen.
    stages = list(_stage_layers(_merged([*before, *after, *own, *last]).get("model") or {}, settings, scale, file))
    found = [*before, *stages, *after]
    for name in narrower:
        where = f"model {name!r} at scale {scale!r}"
        model = _only_read(_merged(found).get("model") or {}, row, [])
        path = tree.named("models", name)
        found += [Layer(f"model {name}", plain, path) for plain in compression(model, read_model(tree, name), where)]
        found += _own(name, settings, scale, file)
    return [normalised_layer(layer) for layer in [*found, *last] if layer.plain]


def _own(name: str, settings: ScaleConfig, scale: str, file: Path) -> list[Layer]:
    """What a model that is like another one says itself, and what the scale says of it."""
    tree = config_tree()
    return [
        Layer(f"model {name}", read_model(tree, name).settings, tree.named("models", name)),
        Layer(f"scale {scale}, model {name}", settings.models.get(name) or {}, file, ("models", name)),
    ]


def _merged(found: Sequence[Layer]) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    for layer in found:
        _check_sections(layer, layer.plain)
        plain = merge(plain, layer.plain)
    return plain


def _check_sections(layer: Layer, plain: dict[str, Any], at: tuple[str, ...] = ()) -> None:
    """Nothing but settings may stand for settings: a number or null would drop those of the layers below in silence.

    Raises:
        ConfigError: something else does.
    """
    for key, value in plain.items():
        where = (*at, key)
        if isinstance(value, dict):
            _check_sections(layer, value, where)
        elif where in SECTIONS:
            source = f"{layer.label}: {layer.path}" if layer.path else layer.label
            raise ConfigError(f"{source}: {'.'.join(where)}: settings of a group are a mapping, not {value!r}")


def _sensors_of(model: dict[str, Any]) -> list[str]:
    """The sensors that plain settings of a model name.

    Raises:
        ConfigError: they are no list of names.
    """
    sensors = model.get("sensors", list(ModelConfig().sensors))
    if not isinstance(sensors, list | tuple) or not all(isinstance(sensor, str) for sensor in sensors):
        raise ConfigError(f"model.sensors: wants a list of {', '.join(ENCODERS)}, not {sensors!r}")
    return list(sensors)


def _stage_layers(model: dict[str, Any], settings: ScaleConfig, scale: str, file: Path) -> Iterator[Layer]:
    """What the scale says of the stages that are chosen, and of no others."""
    sensors = _sensors_of(model)
    head = (model.get("head") or {}).get("kind", SLOTS["head"][1].default)
    _check_stages(settings, file)
    for slot, kinds in settings.stages.items():
        if slot in _OF_HEAD:
            where: tuple[str, ...] = (slot,)
            kind, named = head, {}
        else:
            where, stage = SLOTS[slot]
            section: Any = model
            for key in where:
                section = section.get(key) if isinstance(section, dict) else None
            kind = section.get("kind", stage.default) if isinstance(section, dict) else stage.default
            named = {"kind": kind}
        read = where[0] in sensors if where[0] in ENCODERS else len(sensors) > 1 if where[0] == "fuser" else True
        if read and isinstance(kind, str) and kind in kinds:
            plain: dict[str, Any] = named | kinds[kind]
            above = ("model", *where)
            for key in reversed(above):
                plain = {key: plain}
            yield Layer(f"scale {scale}, {slot} {kind}", plain, file, ("stages", slot, kind), above)


def _check_stages(settings: ScaleConfig, file: Path) -> None:
    """Every stage that a scale speaks of exists, and so does every kind of it: a typo would be left out in silence.

    Raises:
        ConfigError: one does not.
    """
    known = [*SLOTS, *_OF_HEAD]
    for slot, kinds in settings.stages.items():
        if slot not in known:
            raise ConfigError(
                f"{file}: stages: unknown stage {slot!r}{nearest(slot, known)}; known: {', '.join(known)}"
            )
        for kind in kinds:
            try:
                registry.settings(slot if slot in _OF_HEAD else SLOTS[slot][1].slot, kind)
            except ConfigError as error:
                raise ConfigError(f"{file}: stages.{slot}: {error}") from None


def load_run(run: str, scale: str, seed: int, overrides: Sequence[str] | None = None) -> RunConfig:
    """Resolve one run.

    Raises:
        ConfigError: unknown run, scale, model or dataset; unknown key or wrong type anywhere; an override of what says
            which run it is; image weights that must be said and are not.
    """
    row = row_of(run, scale)
    try:
        config = _resolved(row, scale, seed, overrides or ())
    except ConfigError as error:
        if not overrides:
            raise
        advice = override_advice(str(error), overrides, to_plain(load_run(run, scale, seed)))
        raise ConfigError(f"{error}{advice}") from None
    check_weights_said(config, load_scale(scale).image_weights_required)
    factor = config.train.steps_factor
    steps, epochs = round(config.train.steps * factor), max(1, round(config.train.epochs * factor))
    return replace(config, train=replace(config.train, steps=steps, epochs=epochs, steps_factor=1.0))


def _resolved(row: RowConfig, scale: str, seed: int, overrides: Sequence[str]) -> RunConfig:
    found = layers(row, scale, overrides)
    plain = _merged(found)
    for key in ("run", "scale", "seed", "row"):
        if key in plain:
            raise ConfigError(f"run {row.id!r}: {key!r} cannot be set, it says which run this is")
    if "model" in plain:
        plain["model"] = _only_read(plain["model"], row, found)
    plain |= {"run": row.id, "scale": scale, "seed": seed, "row": to_plain(row)}
    return parse(RunConfig, plain, f"run {row.id!r} at scale {scale!r}", found)


def load_model(
    model: str, scale: str, dataset: str = "nuscenes", changes: dict[str, Any] | None = None
) -> tuple[ModelConfig, DataConfig]:
    """A detector at a scale without any run of it, and the data that it reads there.

    `changes` to its settings (`{"lidar": {"cell": 0.2}}`) win over those of model and scale.

    Raises:
        ConfigError: unknown model, data set or scale, or a bad setting.
    """
    row = RowConfig(id=model, dataset=dataset, model=model, set={"model": changes} if changes else {})
    found = layers(row, scale)
    plain = _merged(found)
    read = _only_read(plain.get("model") or {}, row, found)
    where = f"model {model!r} at scale {scale!r}"
    return parse(ModelConfig, read, where), parse(DataConfig, plain.get("data") or {}, where)


def _only_read(model: dict[str, Any], row: RowConfig, found: list[Layer]) -> dict[str, Any]:
    """The model without stages that it has not, which models, data sets and scales may speak of.

    Raises:
        ConfigError: the row or the command line speaks of one.
    """
    sensors = _sensors_of(model)
    absent = {name for name in ENCODERS if name not in sensors} | ({"fuser"} if len(sensors) < 2 else set())
    for layer in found:
        if layer.of_run:
            for name in sorted(absent & set(layer.plain.get("model") or {})):
                raise ConfigError(
                    f"run {row.id!r}: {layer.label} sets model.{name}, but the model has no such stage"
                    f" (its sensors: {', '.join(sensors)})"
                )
    return {key: value for key, value in model.items() if key not in absent}
