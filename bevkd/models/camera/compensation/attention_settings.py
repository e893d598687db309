"""Settings of the compensation module `attention`."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from bevkd.config.bounds import Pixels, Some
from bevkd.registry import register_settings


@register_settings("compensation", "attention")
@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class AttentionSettings:
    """Deformable self-attention; the defaults are those of SimDistill's module on images, 20 points are for BEV maps.

    Attributes:
        heads: that share the channels.
        points: that each head reads.
        table: rows and columns of the map that the learned position embedding is for; maps of another size read it in
            between.
        half_cell_shift: read everything half a cell too far to the left and to the top, as the released code does.
    """

    kind: Literal["attention"] = "attention"
    heads: Some = 8
    points: Some = 10
    table: tuple[Pixels, Pixels] = (32, 88)
    half_cell_shift: bool = False
