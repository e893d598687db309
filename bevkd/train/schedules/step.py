"""Drops at given moments, after a linear warm-up (BEVDepth, CenterPoint on nuScenes)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from bevkd.config.training import Moment, Timeline
from bevkd.registry import register_settings
from bevkd.train.schedules.base import STRICT, Rates, Schedule, Warmup, warmed


@register_settings("schedule", "step")
@dataclass(frozen=True, kw_only=True, config=STRICT)
class Steps(Schedule):
    """`lr`, multiplied with `factor` at each of the moments `at`.

    Attributes:
        at: when it drops.
        factor: of each drop.
        warmup: a rise before.
    """

    kind: Literal["step"] = "step"
    at: tuple[Moment, ...] = Field(min_length=1)
    factor: float = Field(default=0.1, gt=0, lt=1)
    warmup: Warmup | None = None

    def rates(self, step: int, line: Timeline, lr: float) -> Rates:
        """Rates of a step."""
        drops = sum(step >= moment.at(line) for moment in self.at)
        return Rates(lr * self.factor**drops * warmed(self.warmup, step, line))
