"""One learning rate, if wanted after a warm-up."""

from __future__ import annotations

from typing import Literal

from pydantic.dataclasses import dataclass

from bevkd.config.training import Timeline
from bevkd.registry import register_settings
from bevkd.train.schedules.base import STRICT, Rates, Schedule, Warmup, warmed


@register_settings("schedule", "constant")
@dataclass(frozen=True, kw_only=True, config=STRICT)
class Constant(Schedule):
    """`lr` all the way."""

    kind: Literal["constant"] = "constant"
    warmup: Warmup | None = None  # a rise before

    def rates(self, step: int, line: Timeline, lr: float) -> Rates:
        """Rates of a step."""
        return Rates(lr * warmed(self.warmup, step, line))
