"""Settings of the BEV encoder."""

from __future__ import annotations

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

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
    """

    kind: str = "second_fpn"
    widths: tuple[int, ...] = (128, 256)
    depths: tuple[int, ...] = (5, 5)
    strides: tuple[int, ...] = (1, 2)
    up_channels: int = 256
