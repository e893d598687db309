"""Settings of the compensation module `conv`."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from bevkd.registry import register_settings


@register_settings("compensation", "conv")
@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class ConvSettings:
    """One convolution has nothing to set."""

    kind: Literal["conv"] = "conv"
