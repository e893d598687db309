"""From a run's name to its settings: layers of plain data, of which later ones win.

Data set, model, scale (common, by stage, by data set, by model), recipe of the paper, what narrower models change, row,
row at the scale, `--set`. What no layer says is a default of the code. Options of a method: scale, row.
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
from bevkd.config.papers import load_papers, load_rows, stand_ins_at
from bevkd.config.places import ConfigTree, config_tree
from bevkd.config.plain import ABSENT, Layer, merge, parse, read_mapping, to_plain, value_at
from bevkd.config.rows import recipe_init, recipe_layers, row_layers
from bevkd.config.scale import ScaleConfig
from bevkd.config.schema import ENCODERS, DataConfig, ModelConfig, RowConfig, RunConfig
from bevkd.config.settings import override_advice
from bevkd.config.slots import PIPELINE, all_places, fuses, places
from bevkd.config.weights import check_weights_said
from bevkd.errors import ConfigError, nearest

# Keys of groups of settings, which no value takes the place of.
_SECTIONS = frozenset(
    (
        *(("train",), ("data",), ("model",)),
        *(("train", "optimizer"), ("train", "schedule")),
        *(("data", "augment"), ("data", "augment", "image"), ("data", "augment", "bev")),
        *(("model", name) for name in ("grid", "norm", "loss", "decode")),
        *(("model", *place.where) for place in PIPELINE),
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
    names = stand_ins_at(scale)  # teachers and starts that are other runs there
    inits = (init for init in row.inits if not init.scales or scale in init.scales)
    said = tuple(replace(init, run=names.get(init.run, init.run), scales=()) for init in inits)
    if row.init is None or (row.inits and not said):
        init = recipe_init(row, scale)
    else:
        init = said[0] if len(said) == 1 else said or None
    # What is another run there is made for whatever names it: nothing does, but who asks for it by name.
    target = "demand" if scale in row.same_as else row.target
    settings = load_scale(scale)
    method = row.method and replace(
        row.method.at(scale), options=options_at(row.method.kind, row.method.options, settings)
    )
    mode = settings.teacher_mode or row.teacher_mode
    teacher = None if row.teacher is None else names.get(row.teacher, row.teacher)
    return replace(row, teacher=teacher, teacher_mode=mode, init=init, target=target, method=method)


def options_at(kind: str, options: dict[str, Any], settings: ScaleConfig) -> dict[str, Any]:
    """Options of a method, and of those that it combines, above what the scale says of them."""
    options = merge(settings.methods.get(kind) or {}, options)
    if isinstance(parts := options.get("methods"), list):
        options["methods"] = [_part_at(part, settings) for part in parts]
    return options


def _part_at(part: Any, settings: ScaleConfig) -> Any:
    if not isinstance(part, dict) or not isinstance(kind := part.get("kind"), str):
        return part  # which the method itself will refuse
    merged = options_at(kind, part.get("options") or {}, settings)
    return part | {"options": merged} if merged else part


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
    return [normalised_layer(layer) for layer in _said_again([*found, *last], stages) if layer.plain]


def _said_again(found: Sequence[Layer], stages: Sequence[Layer]) -> Iterator[Layer]:
    """The layers, and what the scale says of a stage once more before each that comes back to its kind.

    Settings of another kind begin anew: where a scale narrows a model to one backbone and a row goes back to the
    other, what the scale says of that would be gone, and a small network have the published size.
    """
    plain: dict[str, Any] = {}
    said: list[Layer] = []
    for layer in found:
        after = merge(plain, layer.plain)
        back = [stage for stage in said if _is_chosen(stage, after) and not _is_chosen(stage, plain)]
        for stage in back:
            plain = merge(plain, stage.plain)
            yield stage
        plain = merge(plain, layer.plain)
        yield layer
        if layer in stages:
            said.append(layer)


def _is_chosen(stage: Layer, plain: dict[str, Any]) -> bool:
    """Whether plain settings have the kind of stage that a layer is of; loss and decoding of a head name none."""
    kind, there = value_at(stage.plain, (*stage.above, "kind")), value_at(plain, stage.above)
    return kind is ABSENT or (isinstance(there, dict) and there.get("kind", kind) == kind)


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
        elif where in _sections():
            source = f"{layer.label}: {layer.path}" if layer.path else layer.label
            raise ConfigError(f"{source}: {'.'.join(where)}: settings of a group are a mapping, not {value!r}")


@cache
def _sections() -> frozenset[tuple[str, ...]]:
    """With the stages inside of encoders; null says that a network is without one that is optional."""
    return _SECTIONS | {("model", *place.where) for place in all_places() if not place.stage.optional}


def _sensors_of(model: dict[str, Any]) -> list[str]:
    """The sensors that plain settings of a model name.

    Raises:
        ConfigError: they are no list of names.
    """
    sensors = model.get("sensors", list(ModelConfig().sensors))
    if not isinstance(sensors, list | tuple) or not all(isinstance(sensor, str) for sensor in sensors):
        raise ConfigError(f"model.sensors: wants a list of {', '.join(ENCODERS)}, not {sensors!r}")
    return list(sensors)


def _absent(model: dict[str, Any]) -> set[str]:
    """Encoders of sensors that plain settings of a model do not name, and the fuser where there is one map."""
    sensors = _sensors_of(model)
    return {name for name in ENCODERS if name not in sensors} | (set() if fuses(model, sensors) else {"fuser"})


def _stage_layers(model: dict[str, Any], settings: ScaleConfig, scale: str, file: Path) -> Iterator[Layer]:
    """What the scale says of the stages that are chosen, and of no others."""
    absent = _absent(model)
    _check_stages(settings, file)
    found = list(places(model))
    for slot, kinds in settings.stages.items():
        for place in found:
            of_head = slot in _OF_HEAD and place.where == ("head",)
            if not of_head and not place.is_called(slot):
                continue
            where, kind = (slot,) if of_head else place.where, place.kind(model)
            if where[0] not in absent and kind is not None and kind in kinds:
                plain: dict[str, Any] = kinds[kind] if of_head else {"kind": kind} | kinds[kind]
                above = ("model", *where)
                for key in reversed(above):
                    plain = {key: plain}
                yield Layer(f"scale {scale}, {slot} {kind}", plain, file, ("stages", slot, kind), above)


def _check_stages(settings: ScaleConfig, file: Path) -> None:
    """Every stage that a scale speaks of exists, and so does every kind of it: a typo would be left out in silence.

    Raises:
        ConfigError: one does not.
    """
    known = {place.where[-1]: place.stage.slot for place in all_places()}
    known |= {place.stage.slot: place.stage.slot for place in all_places()} | {slot: slot for slot in _OF_HEAD}
    for slot, kinds in settings.stages.items():
        if slot not in known:
            raise ConfigError(
                f"{file}: stages: unknown stage {slot!r}{nearest(slot, known)}; known: {', '.join(known)}"
            )
        for kind in kinds:
            try:
                registry.settings(known[slot], kind)
            except ConfigError as error:
                raise ConfigError(f"{file}: stages.{slot}: {error}") from None


def load_run(run: str, scale: str, seed: int, overrides: Sequence[str] | None = None) -> RunConfig:
    """Resolve one run.

    Raises:
        ConfigError: unknown run, scale, model or dataset; unknown key or wrong type anywhere; an override of what says
            which run it is; image weights that must be said and are not.
    """
    if not overrides:
        return _as_configured(config_tree(), run, scale, seed)
    row = row_of(run, scale)
    try:
        config = _resolved(row, scale, seed, overrides)
    except ConfigError as error:
        advice = override_advice(str(error), overrides, to_plain(load_run(run, scale, seed)))
        raise ConfigError(f"{error}{advice}") from None
    return _checked(config)


@cache
def _as_configured(_tree: ConfigTree, run: str, scale: str, seed: int) -> RunConfig:
    """Plans ask for the same few teachers hundreds of times."""
    return _checked(_resolved(row_of(run, scale), scale, seed, ()))


def _checked(config: RunConfig) -> RunConfig:
    """With the length of the training as it comes out, if weights to start from are said where they must be."""
    check_weights_said(config, load_scale(config.scale).image_weights_required)
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
    absent = _absent(model)
    for layer in found:
        if layer.of_run:
            for name in sorted(absent & set(layer.plain.get("model") or {})):
                raise ConfigError(
                    f"run {row.id!r}: {layer.label} sets model.{name}, but the model has no such stage"
                    f" (its sensors: {', '.join(_sensors_of(model))})"
                )
    return {key: value for key, value in model.items() if key not in absent}
