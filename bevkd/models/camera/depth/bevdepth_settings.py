"""Settings of the depth net `bevdepth`."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from bevkd.config.bounds import Few, Width
from bevkd.registry import register_settings


@register_settings("depth_net", "bevdepth")
@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class BEVDepthNetSettings:
    """Camera-aware depth net of DistillBEV's BEVDepth.

    Attributes:
        channels: of everything on the way to depths.
        blocks: residual blocks.
        deformable: a deformable convolution behind them, or a plain one.
    """

    kind: Literal["bevdepth"] = "bevdepth"
    channels: Width = 256
    blocks: Few = 3
    deformable: bool = True
