"""Settings of lift-splat."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from bevkd.config.bounds import RANGE, Cell, Length, Place, Spread
from bevkd.errors import ConfigError
from bevkd.registry import register_settings


@register_settings("view_transform", "lift_splat")
@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class LiftSplatSettings:
    """Depth bins: bin i is the plane at `depth_min + i * depth_step` metres.

    Attributes:
        depth_min, depth_max: nearest and farthest depth (m).
        depth_step: width of a bin (m).
        z_range: ends of the heights that are summed (m); null: those of the grid.
        finer: sum into cells so many times smaller than the grid's, which convolutions then bring to its size; 1: not.
    """

    kind: Literal["lift_splat"] = "lift_splat"
    depth_min: Spread = 2.0
    depth_max: Length = 58.0
    depth_step: Cell = 0.5
    z_range: Annotated[tuple[Place, Place], RANGE] | None = None
    finer: Literal[1, 2, 4, 8] = 1

    @property
    def bins(self) -> int:
        """Number of depth bins.

        Raises:
            ConfigError: the depth range is not a multiple of the step.
        """
        bins = round((self.depth_max - self.depth_min) / self.depth_step)
        if bins < 1 or abs(bins * self.depth_step - (self.depth_max - self.depth_min)) > 1e-6:
            raise ConfigError("camera.view: depth_max - depth_min must be a positive multiple of depth_step")
        return bins
