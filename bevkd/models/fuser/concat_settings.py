"""Settings of fusion by concatenation."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from bevkd.config.bounds import Epsilon, Share, Width
from bevkd.registry import register_settings


@register_settings("fuser", "concat")
@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class ConcatSettings:
    """Concatenation, an optional channel gate, one convolution.

    Attributes:
        gate: multiply every channel by a factor that its mean over the map decides.
        out_channels: of the fused map.
        norm_eps, norm_momentum: of its batch norm; none: as `model.norm` says.
    """

    kind: Literal["concat"] = "concat"
    gate: bool = True
    out_channels: Width = 256
    norm_eps: Epsilon | None = None
    norm_momentum: Share | None = None
