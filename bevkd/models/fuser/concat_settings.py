"""Settings of fusion by concatenation."""

from __future__ import annotations

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

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

    kind: str = "concat"
    gate: bool = True
    out_channels: int = 256
    norm_eps: float | None = None
    norm_momentum: float | None = None
