"""What every schedule answers, and the warm-up that several of them share."""

from __future__ import annotations

import math
from typing import NamedTuple

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from bevkd.config.bounds import Share
from bevkd.config.training import Moment, Timeline

STRICT = ConfigDict(extra="forbid")
MOMENTUM_DIP = 0.1  # by how much the cyclic recipes lower the momentum at the peak of the learning rate


class Rates(NamedTuple):
    """Of one step: the learning rate, and by how much the momentum (beta1) lies below its usual value."""

    lr: float
    dip: float = 0.0


class Schedule:
    """Base of the settings of a schedule, which are also its function."""

    def rates(self, step: int, line: Timeline, lr: float) -> Rates:
        """Rates of step `step` (from 0).

        Args:
            step: number of the step.
            line: length of the training.
            lr: `train.lr`, scaled with the batch and by the factor of a parameter group.
        """
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Warmup(Moment):
    """A linear rise to the full rate until a moment, `{step: 500, start: 0.333}`.

    Attributes:
        start: factor of the first step.
    """

    start: Share = 1e-3

    def factor(self, step: int, line: Timeline) -> float:
        """What the rate of a step is multiplied with."""
        end = self.at(line)
        return 1.0 if step >= end else self.start + (1 - self.start) * step / end


def warmed(warmup: Warmup | None, step: int, line: Timeline) -> float:
    """Factor of an optional warm-up."""
    return 1.0 if warmup is None else warmup.factor(step, line)


def cosine_between(start: float, end: float, share: float) -> float:
    """Half a cosine from `start` at share 0 to `end` at share 1."""
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2
