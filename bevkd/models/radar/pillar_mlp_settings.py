"""Settings of the radar encoder of CRKD."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from bevkd.config.bounds import Factor, Few, Width
from bevkd.data.reads import RadarFeatures, Reads
from bevkd.registry import register_settings

if TYPE_CHECKING:
    from bevkd.config.schema import DataConfig, ModelConfig


@register_settings("radar_encoder", "pillar_mlp")
@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class PillarMLPSettings:
    """Linear layers on every point, maximum over the points of a pillar; the defaults are CRKD's (spec, 2.3, 3.4).

    Attributes:
        channels: of the linear layers; the last is that of the BEV map.
        max_points: per pillar; 0: no limit.
        padding: `masked`: only points count. `counted`: as in the public code, pillars are filled up with zeros, which
            batch norms see and which can win the maximum.
        rcs_scale, velocity_scale, dt_scale: factors of dBsm, m/s and s; the published ones are 1, others condition
            small networks better.
        calibration: dilated convolutions on the map, which takes the place of `radar` (spec, 3.5); CRKD's students have
            3, other detectors 0.
        calibration_start: weights that these start from: random ones (Kaiming's, by outputs), as published, or such
            that a cell passes on what it has but for the batch norms: few steps do not suffice to learn the map anew.
        dilation: of these.
        filtered: leave out points that the nuScenes devkit takes for invalid or ambiguous.
        advance: move points by their age times their velocity over ground.
        released_augment: augmentation turns (rcs, vx) in place of (vx, vy), as the public code does by mistake.
    """

    kind: Literal["pillar_mlp"] = "pillar_mlp"
    channels: Annotated[tuple[Width, ...], Field(min_length=1)] = (256, 256, 256, 256)
    max_points: Few = 20
    padding: Literal["masked", "counted"] = "masked"
    rcs_scale: Factor = 1.0
    velocity_scale: Factor = 1.0
    dt_scale: Factor = 1.0
    calibration: Few = 0
    calibration_start: Literal["kaiming", "identity"] = "kaiming"
    dilation: Annotated[int, Field(ge=1, le=16)] = 2
    filtered: bool = False
    advance: bool = True
    released_augment: bool = False

    def __post_init__(self) -> None:
        """Pillars can only be filled up to some size."""
        if self.padding == "counted" and self.max_points == 0:
            raise ValueError("padding 'counted' wants max_points")

    def unread(self) -> tuple[str, ...]:
        """Settings that mean nothing beside the others."""
        return () if self.calibration else ("dilation", "calibration_start")

    def reads(self, model: ModelConfig, data: DataConfig) -> Reads:
        """Points of all radars, of the key sweep and of the earlier ones that the data say, with their states."""
        return Reads.of(RadarFeatures(data.radar_sweeps, self.filtered, self.advance, self.released_augment))
