"""Settings of the BEV encoder."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from bevkd.config.bounds import Few, Stride, Width
from bevkd.registry import register_settings


@register_settings("bev_encoder", "second_fpn")
@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class SecondFPNSettings:
    """SECOND's backbone with an FPN.

    Attributes:
        widths: of each block.
        depths: convolutions after the first one of each block.
        strides: of each block, relative to the input map.
        up_channels: per block, behind the FPN.
        finer: cells of the input map per cell of the grid, along each axis: pillars are then read as they lie on their
            canvas, and the first blocks bring them to the grid (CenterPoint with pillars).
    """

    kind: Literal["second_fpn"] = "second_fpn"
    widths: Annotated[tuple[Width, ...], Field(min_length=1)] = (128, 256)
    depths: tuple[Few, ...] = (5, 5)
    strides: tuple[Stride, ...] = (1, 2)
    up_channels: Width = 256
    finer: Stride = 1

    @property
    def high_channels(self) -> int:
        """Channels of F_high."""
        return self.up_channels * len(self.widths)
