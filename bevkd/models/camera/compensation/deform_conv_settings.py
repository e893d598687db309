"""Settings of the compensation module `deform_conv`."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from bevkd.config.bounds import WidthOrNone
from bevkd.registry import register_settings


@register_settings("compensation", "deform_conv")
@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class DeformConvSettings:
    """Two modulated deformable convolutions.

    Attributes:
        hidden: channels between them; 0: those of the map. 80 on images of 256 channels in the released code.
    """

    kind: Literal["deform_conv"] = "deform_conv"
    hidden: WidthOrNone = 0
