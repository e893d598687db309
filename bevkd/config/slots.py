"""Where settings of stages stand in `model`: those of the pipeline, and those inside of sensor encoders."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from typing import Any, get_type_hints

from pydantic.fields import FieldInfo

from bevkd import registry
from bevkd.config.plain import ABSENT, value_at
from bevkd.config.schema import ENCODERS, FUSER, branches
from bevkd.config.stages import Stage


@dataclass(frozen=True)
class Place:
    """A place for the settings of a stage.

    Attributes:
        where: keys that lead to it from `model`; the last one is its name.
        stage: which stage it is.
        usual: the kind that stands there where nothing is said; none: no stage.
    """

    where: tuple[str, ...]
    stage: Stage
    usual: str | None

    def is_called(self, word: str) -> bool:
        """Whether a scale means this place: by its name, or by its slot, which several places may share."""
        return word in (self.where[-1], self.stage.slot)

    def kind(self, model: dict[str, Any]) -> str | None:
        """The kind that plain settings of a model choose here; none where they do without the stage."""
        section = value_at(model, self.where)
        if isinstance(section, dict):
            kind = section.get("kind", self.stage.default)
            return kind if isinstance(kind, str) else None  # which parsing will refuse
        return self.usual if section is ABSENT or not self.stage.optional else None


# Of the pipeline; which of its optional ones a model has, its sensors say.
PIPELINE = (
    *(Place((name,), stage, stage.default) for name, stage in ENCODERS.items()),
    Place(("fuser",), FUSER, FUSER.default),
    Place(("bev",), Stage("bev_encoder", "second_fpn"), "second_fpn"),
    Place(("head",), Stage("head", "center"), "center"),
)


def places(model: dict[str, Any]) -> Iterator[Place]:
    """All places of a model by its plain settings, whether or not it has the sensors."""
    for place in PIPELINE:
        yield place
        kind = place.kind(model)
        if place.where[0] in ENCODERS and kind and registry.is_known(place.stage.slot, kind):
            yield from _inside(place.where, registry.settings(place.stage.slot, kind))


def fuses(model: dict[str, Any], sensors: Sequence[str]) -> bool:
    """Whether several maps meet in a fuser, by plain settings of a model: of several sensors, or of branches of one."""
    if len(sensors) > 1:
        return True
    for place in PIPELINE:
        kind = place.kind(model)
        if place.where == tuple(sensors) and kind and registry.is_known(place.stage.slot, kind):
            return len(branches(registry.settings(place.stage.slot, kind))) > 1
    return False


@cache
def all_places() -> tuple[Place, ...]:
    """The places of all models: with those inside of every kind of sensor encoder."""
    out = list(PIPELINE)
    for sensor, stage in ENCODERS.items():
        for kind in registry.settings_names(stage.slot):
            out += _inside((sensor,), registry.settings(stage.slot, kind))
    return tuple(dict.fromkeys(out))


@cache
def _inside(where: tuple[str, ...], cls: type) -> tuple[Place, ...]:
    """Places within the settings of a stage."""
    if not is_dataclass(cls):
        return ()
    hints = get_type_hints(cls, include_extras=True)
    out = []
    for field in fields(cls):
        stage = next((mark for mark in getattr(hints[field.name], "__metadata__", ()) if isinstance(mark, Stage)), None)
        if stage is not None:
            usual: Any = field.default
            if isinstance(usual, FieldInfo):
                usual = usual.get_default(call_default_factory=True)
            out.append(Place((*where, field.name), stage, getattr(usual, "kind", None)))
    return tuple(out)
