"""Settings of gated fusion."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from bevkd.config.bounds import Epsilon, Share, Width
from bevkd.registry import register_settings


@register_settings("fuser", "gated")
@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class GatedSettings:
    """A gate for every channel and cell, concatenation, one convolution.

    Attributes:
        out_channels: of the fused map.
        norm_eps, norm_momentum: of its batch norm; none: as `model.norm` says.
    """

    kind: Literal["gated"] = "gated"
    out_channels: Width = 256
    norm_eps: Epsilon | None = None
    norm_momentum: Share | None = None
