"""One cycle, as torch's `OneCycleLR` (UniDistill spec, section 7)."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from bevkd.config.bounds import Share
from bevkd.config.training import Timeline
from bevkd.registry import register_settings
from bevkd.train.schedules.base import MOMENTUM_DIP, STRICT, Rates, Schedule


@register_settings("schedule", "one_cycle")
@dataclass(frozen=True, kw_only=True, config=STRICT)
class OneCycle(Schedule):
    """Here `lr` is the peak: cosine up from `lr / div_factor`, then cosine down to `final_div_factor` below the start.

    Attributes:
        warmup_fraction: share of the steps until the peak.
        div_factor, final_div_factor: start below the peak, end below the start.
        momentum_dip: by how much the momentum is lower at the peak.
    """

    kind: Literal["one_cycle"] = "one_cycle"
    warmup_fraction: Share = 0.3
    div_factor: float = Field(default=25.0, gt=0, le=1e9)
    final_div_factor: float = Field(default=1e4, gt=0, le=1e9)
    momentum_dip: Share = MOMENTUM_DIP

    def rates(self, step: int, line: Timeline, lr: float) -> Rates:
        """Rates of a step."""
        start = lr / self.div_factor
        end = start / self.final_div_factor
        top, last = self.warmup_fraction * line.steps - 1, line.steps - 1
        if step <= top:
            low, rise = start, step / top if top > 0 else 1.0
        else:
            low, rise = end, 1 - (step - max(top, 0)) / (last - max(top, 0)) if last > max(top, 0) else 1.0
        height = (1 - math.cos(math.pi * rise)) / 2
        return Rates(low + (lr - low) * height, self.momentum_dip * height)
