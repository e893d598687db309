"""Settings of fusion by concatenation."""

from __future__ import annotations

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from bevkd.registry import register_settings


@register_settings("fuser", "concat")
@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class ConcatSettings:
    """Concatenation, an optional channel gate, one convolution."""

    kind: str = "concat"
    gate: bool = True
    out_channels: int = 256
