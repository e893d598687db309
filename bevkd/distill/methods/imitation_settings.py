"""Options of plain feature imitation, and what it taps."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from bevkd.config.bounds import DISTINCT, Name, Weight
from bevkd.distill.settings import MethodSettings
from bevkd.distill.tap import Tap
from bevkd.distill.taps.cells import BoxMask, CellIndex, CellValues
from bevkd.distill.taps.maps import WholeMap
from bevkd.registry import register_settings

# The name of the cells among the targets; no feature has it.
CELL = "cell index"


@register_settings("method", "imitation")
@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class ImitationConfig(MethodSettings):
    """Options of plain feature imitation; `features` are names of BEV maps of the networks.

    Attributes:
        weight: of the squared difference.
        features: BEV maps that are compared.
        mask: every cell, or those under boxes (`fg`).
    """

    weight: Weight = 1.0
    features: Annotated[tuple[Name, ...], Field(min_length=1), DISTINCT] = ("low",)
    mask: Literal["all", "fg"] = "all"

    @property
    def needs_boxes(self) -> bool:
        """Where the mask does."""
        return False

    def taps(self) -> dict[str, Tap]:
        """Per feature the whole map (B, C, H, W), or the foreground cells (n, C) and their indices."""
        if self.mask == "all":
            return {name: WholeMap(name) for name in self.features}
        cells = BoxMask()
        return {CELL: CellIndex(cells=cells)} | {name: CellValues(name, cells) for name in self.features}
