"""Reading taps: what several of them need of a batch is made once."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any, TypeVar, cast

import torch
from torch import Tensor

from bevkd.data.batch import Target, Targets
from bevkd.distill.masks import Cells
from bevkd.distill.sampling import gather_cells
from bevkd.distill.tap import Cellset, Tap
from bevkd.models.outputs import BEVOutputs

if TYPE_CHECKING:
    from bevkd.distill.base import DistillContext

T = TypeVar("T")


class Reading:
    """Outputs of a network for one batch, as taps see them.

    Attributes:
        outputs: what the network said.
        context: grid, boxes and cameras of the batch.
    """

    def __init__(self, outputs: BEVOutputs, context: DistillContext) -> None:
        self.outputs, self.context = outputs, context
        self._made: dict[Hashable, Any] = {}

    def feature(self, name: str) -> Any:
        """A feature of the network, see `BEVOutputs.feature`."""
        return self.outputs.feature(name)

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """What `make` gives, made at the first call with this key."""
        if key not in self._made:
            self._made[key] = make()
        return cast(T, self._made[key])

    def cells(self, cells: Cellset) -> Cells:
        """The cells of a choice."""
        return self.once(_whole(cells), lambda: cells.find(self))

    def at(self, feature: str, cells: Cellset) -> Target:
        """A BEV map at the cells of a choice: (n, C)."""
        found = self.cells(cells)
        return Target(gather_cells(self.feature(feature), found.cell, found.frame), found.frame)

    def per_frame(self, values: Tensor) -> Target:
        """A target with one row per frame."""
        return Target(values, torch.arange(self.context.batch_size, device=self.context.labelled.device))

    def rows(self, values: Tensor, frame: Tensor) -> Target:
        """A target with any number of rows per frame."""
        return Target(values, frame)


def read_taps(taps: Mapping[str, Tap], outputs: BEVOutputs, context: DistillContext) -> Targets:
    """The targets of a batch by name, detached; equal taps are read once."""
    reading = Reading(outputs, context)
    found = {name: reading.once(_whole(tap), lambda tap=tap: tap.read(reading)) for name, tap in taps.items()}  # type: ignore[misc]
    return {name: Target(target.values.detach(), target.frame) for name, target in found.items()}


def _whole(choice: Tap | Cellset) -> Hashable:
    """All options, also those that make no difference to what is stored."""
    values = (getattr(choice, f.name) for f in fields(choice))
    return (type(choice), *(_whole(v) if isinstance(v, (Tap, Cellset)) else v for v in values))
