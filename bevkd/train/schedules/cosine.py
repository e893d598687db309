"""Half a cosine down, after a linear warm-up (CRKD, BEVFormer)."""

from __future__ import annotations

from typing import Literal

from pydantic.dataclasses import dataclass

from bevkd.config.bounds import Share
from bevkd.config.training import Timeline
from bevkd.registry import register_settings
from bevkd.train.schedules.base import STRICT, Rates, Schedule, Warmup, cosine_between, warmed


@register_settings("schedule", "cosine")
@dataclass(frozen=True, kw_only=True, config=STRICT)
class Cosine(Schedule):
    """From `lr` to `end * lr`; the warm-up is a factor on that.

    Attributes:
        end: of `lr`, where the schedule would be one step longer.
        warmup: none: the full rate at once.
    """

    kind: Literal["cosine"] = "cosine"
    end: Share = 0.0
    warmup: Warmup | None = None

    def rates(self, step: int, line: Timeline, lr: float) -> Rates:
        """Rates of a step."""
        return Rates(cosine_between(lr, self.end * lr, step / line.steps) * warmed(self.warmup, step, line))
