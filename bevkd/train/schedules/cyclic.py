"""The cyclic schedule of mmdetection3d (DistillBEV's teachers, SimDistill, PointDistiller on KITTI)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from bevkd.config.bounds import Share, Some
from bevkd.config.training import Timeline
from bevkd.registry import register_settings
from bevkd.train.schedules.base import MOMENTUM_DIP, STRICT, Rates, Schedule, cosine_between


@register_settings("schedule", "cyclic")
@dataclass(frozen=True, kw_only=True, config=STRICT)
class Cyclic(Schedule):
    """Here `lr` is where a cycle starts: half a cosine up to `peak * lr`, then half a cosine down to `end * lr`.

    Attributes:
        peak, end: of `lr`.
        up: share of a cycle in which the rate rises.
        cycles: how many, of equal length.
        momentum_dip: by how much the momentum is lower at the peak.
    """

    kind: Literal["cyclic"] = "cyclic"
    peak: float = Field(default=10.0, gt=0, le=1e6)
    end: float = Field(default=1e-4, gt=0, le=1e6)
    up: float = Field(default=0.4, gt=0, lt=1)
    cycles: Some = 1
    momentum_dip: Share = MOMENTUM_DIP

    def rates(self, step: int, line: Timeline, lr: float) -> Rates:
        """Rates of a step."""
        length = max(1, line.steps // self.cycles)
        top = int(self.up * length)
        place = step % length
        if place < top:
            share = place / top
            return Rates(cosine_between(lr, self.peak * lr, share), cosine_between(0.0, self.momentum_dip, share))
        share = (place - top) / (length - top)
        down = cosine_between(self.peak * lr, self.end * lr, share)
        return Rates(down, cosine_between(self.momentum_dip, 0.0, share))
