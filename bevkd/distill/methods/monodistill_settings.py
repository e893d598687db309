"""Options of MonoDistill, and what it taps."""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from bevkd.config.bounds import Weight, Width
from bevkd.distill.settings import MethodSettings
from bevkd.distill.tap import Tap
from bevkd.distill.taps.cells import CellIndex
from bevkd.distill.taps.images import ImageAffinity, ImageBoxCells, ImageCellValues
from bevkd.registry import register_settings


@register_settings("method", "monodistill")
@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class MonoDistillConfig(MethodSettings):
    """Options of MonoDistill with the published defaults.

    Attributes:
        feature, affinity: weights of the two losses.
        levels: how many of the coarsest backbone levels are compared.
        channels: width inside the top-down fusion.
    """

    feature: Weight = 10.0
    affinity: Weight = 1.0
    levels: Annotated[int, Field(ge=1, le=100)] = 3
    channels: Width = 512

    @property
    def needs_boxes(self) -> bool:
        """Where the taps do."""
        return False

    def taps(self) -> dict[str, Tap]:
        """Per level the cells inside of boxes (n,) with features (n, C), and affinities (B, N, s, s)."""
        out: dict[str, Tap] = {}
        for k in range(self.levels):
            cells = ImageBoxCells(k - self.levels)
            out[f"cell{k}"] = CellIndex(cells=cells)
            out[f"feature{k}"] = ImageCellValues(cells=cells)
            out[f"affinity{k}"] = ImageAffinity(level=cells.level)
        return out
