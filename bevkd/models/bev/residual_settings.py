"""Settings of the residual BEV encoders of BEVDet and of BEVFusion."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from bevkd.config.bounds import Some, Stride, Width
from bevkd.registry import register_settings


@register_settings("bev_encoder", "residual")
@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class ResidualSettings:
    """A residual network with its neck.

    Attributes:
        design: whose layers: those of BEVDet, or of the public code of BEVFusion (SimDistill spec, 2), whose F_high is
            non-negative.
        widths: of each stage.
        depths: residual blocks of each stage.
        strides: of each stage, relative to the input map.
        neck_channels: of the two convolutions at the size of the first stage.
        out_channels: of F_high.
        final_norm: design `bevdet`: end with batch norm and ReLU, so that F_high is non-negative as a LiDAR teacher's
            is (DistillBEV).
        align_corners: enlarge maps as the released code does, which puts the centres of the outermost cells of both
            sizes upon each other: content moves by up to 2.4 m there at the published size.
    """

    kind: Literal["residual"] = "residual"
    design: Literal["bevdet", "bevfusion"] = "bevdet"
    widths: Annotated[tuple[Width, ...], Field(min_length=1)] = (128, 256, 512)
    depths: tuple[Some, ...] = (2, 2, 2)
    strides: tuple[Stride, ...] = (2, 4, 8)
    neck_channels: Width = 512
    out_channels: Width = 256
    final_norm: bool = False
    align_corners: bool = False

    def unread(self) -> tuple[str, ...]:
        """Settings that mean nothing beside the others."""
        return ("final_norm",) if self.design == "bevfusion" else ()

    @property
    def high_channels(self) -> int:
        """Channels of F_high."""
        return self.out_channels
