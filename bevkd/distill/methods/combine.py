"""Several methods at once, each with its own options and a factor on its weights; one row of a table.

method:
  kind: combine
  options:
    methods:
      - {kind: dense}
      - {kind: unidistill, weight: 0.5, options: {response: {enabled: false}}}
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from bevkd.config import MethodConfig, to_plain
from bevkd.distill.base import DistillContext, DistillMethod, FeatureSpec, Targets
from bevkd.distill.build import build_method, method_options
from bevkd.errors import ConfigError
from bevkd.models.outputs import BEVOutputs
from bevkd.registry import register


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class PartConfig:
    """One method of a combination; `weight` multiplies all its loss weights."""

    kind: str
    options: dict[str, Any] = Field(default_factory=dict)
    weight: float = 1.0

    @property
    def method(self) -> MethodConfig:
        """The method without its factor."""
        return MethodConfig(self.kind, self.options)


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class CombineConfig:
    """The methods to combine, in order."""

    methods: tuple[PartConfig, ...] = ()


def _split(values: dict[str, Any], index: int) -> dict[str, Any]:
    prefix = f"{index}."
    return {name[len(prefix) :]: value for name, value in values.items() if name.startswith(prefix)}


@register("method", "combine")
class Combine(DistillMethod):
    """The sum of several methods; names of losses and targets carry the method's position."""

    Config = CombineConfig
    config: CombineConfig

    def __init__(self, config: CombineConfig, student: FeatureSpec, teacher: FeatureSpec) -> None:
        super().__init__(config, student, teacher)
        if not config.methods:
            raise ConfigError("combine needs at least one method")
        parts = [build_method(part.method, student, teacher) for part in config.methods]
        self.parts = nn.ModuleList(parts)
        self.reads = frozenset().union(*(part.reads for part in parts))
        self.needs_boxes = any(part.needs_boxes for part in parts)

    def _parts(self) -> list[DistillMethod]:
        return [part for part in self.parts if isinstance(part, DistillMethod)]

    def weights(self) -> dict[str, float]:
        """Every method's weights times its factor."""
        return {
            f"{i}.{name}": weight * self.config.methods[i].weight
            for i, part in enumerate(self._parts())
            for name, weight in part.weights().items()
        }

    @classmethod
    def for_cache(cls, config: CombineConfig) -> CombineConfig:
        """The methods' own supersets."""
        parts = []
        for part in config.methods:
            method, options = method_options(part.method)
            parts.append(replace(part, options=to_plain(method.for_cache(options)), weight=1.0))
        return CombineConfig(tuple(parts))

    @classmethod
    def target_key(cls, config: CombineConfig) -> dict[str, Any]:
        """The keys of the methods, in order."""
        keys = []
        for part in config.methods:
            method, options = method_options(part.method)
            keys.append(method.target_key(options))
        return {"method": "combine", "methods": keys}

    def targets(self, teacher: BEVOutputs, context: DistillContext) -> Targets:
        """All targets, prefixed by the method's position."""
        return {
            f"{i}.{name}": target
            for i, part in enumerate(self._parts())
            for name, target in part.targets(teacher, context).items()
        }

    def losses(self, student: BEVOutputs, targets: Targets, context: DistillContext) -> dict[str, Tensor]:
        """All losses, prefixed by the method's position."""
        return {
            f"{i}.{name}": loss
            for i, part in enumerate(self._parts())
            for name, loss in part.losses(student, _split(targets, i), context).items()
        }
