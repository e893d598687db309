"""What a detector is, whatever it is made of: the interface that training, distillation and evaluation know."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from bevkd.config.schema import ModelConfig
from bevkd.data.batch import Batch, Boxes
from bevkd.errors import FeatureError
from bevkd.models.features import BEFORE, FeatureInfo, FeatureSpec, unknown_feature
from bevkd.models.outputs import BEVOutputs
from bevkd.models.stage import Stage


class Detector(nn.Module, ABC):
    """Base class of detectors; a subclass is built from a `ModelConfig` and registered as `detector`.

    Attributes:
        config: what it was built from.
        grid: grid of its dense BEV maps, or of what methods compare.
        spec: its features and sensors, for distillation.
    """

    spec: FeatureSpec

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.grid = config.grid.build()
        self._activations: dict[str, nn.Module] = {}
        self._before: dict[str, Tensor] = {}
        self._hooks: list[RemovableHandle] = []

    @abstractmethod
    def forward(self, batch: Batch, until: str | None = None) -> BEVOutputs:
        """Run the pipeline as far as the stage `until`, by default to its end. Features beyond it are missing."""

    @abstractmethod
    def loss(self, outputs: BEVOutputs, batch: Batch) -> dict[str, Tensor]:
        """Weighted `total` and its detached, unweighted terms."""

    def decode(self, outputs: BEVOutputs) -> Boxes:
        """Boxes with scores, flat and sorted by frame."""
        return outputs.head.boxes()

    def expose(self, names: Iterable[str]) -> None:
        """Have outputs carry those of these features that are before an activation, `<name>.pre`, and no other such.

        Activations work in place, so that the values before them have to be copied; nobody pays who does not ask.

        Raises:
            FeatureError: it has no such feature; the message has the nearest one.
        """
        for hook in self._hooks:
            hook.remove()
        self._hooks = []
        known = {f"{feature}{BEFORE}": module for feature, module in self._activations.items()}
        for name in sorted({name for name in names if name.endswith(BEFORE)}):
            if name not in known:
                raise unknown_feature(name, known)
            self._hooks.append(known[name].register_forward_pre_hook(partial(self._keep, name)))

    def _keep(self, name: str, _module: nn.Module, inputs: tuple[Any, ...]) -> None:
        self._before[name] = inputs[0].clone()

    def _exposed(self) -> dict[str, Tensor]:
        """What was kept in this pass; for the end of `forward`."""
        kept, self._before = self._before, {}
        return kept

    def _collect(self, stages: Iterable[Stage]) -> dict[str, FeatureInfo]:
        """Features of stages, in order, with those before an activation; their activations are noted.

        Raises:
            FeatureError: two of them make a feature of the same name.
        """
        found: dict[str, FeatureInfo] = {}
        for stage in stages:
            if twice := found.keys() & stage.features.keys():
                raise FeatureError(f"two stages make a feature {min(twice)!r}")
            found |= stage.features
            self._activations |= stage.activations
        return found | {f"{name}{BEFORE}": found[name] for name in self._activations}
