"""Several methods at once, each with its own options and a factor on its weights; one row of a table.

method:
  kind: combine
  options:
    methods:
      - {kind: dense}
      - {kind: unidistill, options: {response: {enabled: false}}, weight: 0.5}
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from bevkd.distill.base import DistillContext, DistillMethod, FeatureSpec, Targets
from bevkd.distill.build import build_method
from bevkd.distill.methods.combine_settings import CombineConfig
from bevkd.errors import ConfigError
from bevkd.models.outputs import BEVOutputs
from bevkd.registry import register


def _split(values: dict[str, Any], index: int) -> dict[str, Any]:
    prefix = f"{index}."
    return {name[len(prefix) :]: value for name, value in values.items() if name.startswith(prefix)}


@register("method", "combine")
class Combine(DistillMethod):
    """The sum of several methods; names of losses and targets carry the method's position."""

    Settings = CombineConfig
    config: CombineConfig

    def __init__(self, config: CombineConfig, student: FeatureSpec, teacher: FeatureSpec) -> None:
        super().__init__(config, student, teacher)
        if not config.methods:
            raise ConfigError("combine needs at least one method")
        parts = [build_method(part.method, student, teacher) for part in config.methods]
        self.parts = nn.ModuleList(parts)

    def _parts(self) -> list[DistillMethod]:
        return [part for part in self.parts if isinstance(part, DistillMethod)]

    def weights(self) -> dict[str, float]:
        """Every method's weights times its factor."""
        return {
            f"{i}.{name}": weight * self.config.methods[i].weight
            for i, part in enumerate(self._parts())
            for name, weight in part.weights().items()
        }

    def losses(self, student: BEVOutputs, targets: Targets, context: DistillContext) -> dict[str, Tensor]:
        """All losses, prefixed by the method's position."""
        return {
            f"{i}.{name}": loss
            for i, part in enumerate(self._parts())
            for name, loss in part.losses(student, _split(targets, i), context).items()
        }
