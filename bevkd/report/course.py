"""How a training went: what its log says of clipped gradients and of the weight that distillation had."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bevkd.report.logs import read_lines

_END = 0.9  # the last tenth of a schedule begins here


@dataclass(frozen=True)
class Course:
    """What a log says beside its losses; None: nothing.

    Attributes:
        clipped: share of the steps whose gradient was clipped.
        clip_scale: mean factor by which clipping scaled gradients, 1 in a step that was not clipped.
        kd_share: weighted sum of the distillation losses over the detection loss, means over the last tenth of the
            schedule.
    """

    clipped: float | None = None
    clip_scale: float | None = None
    kd_share: float | None = None


def course_of(lines: Sequence[dict[str, Any]]) -> Course:
    """The course of a training from the lines of its log, each of which counts as often as it has steps."""
    steps = [int(line["step"]) for line in lines]
    lengths = [step - before for step, before in zip(steps, (0, *steps), strict=False)]
    late = [line["losses"] for line, step in zip(lines, steps, strict=True) if step > _END * steps[-1]]
    taught, det = _mean([losses.get("kd_total") for losses in late]), _mean([losses.get("det") for losses in late])
    return Course(
        clipped=_mean([line.get("clipped") for line in lines], lengths),
        clip_scale=_mean([line.get("clip_scale") for line in lines], lengths),
        kd_share=taught / det if taught is not None and det else None,
    )


def read_course(path: Path) -> Course:
    """The course of a training.

    Raises:
        DataError: the log is missing or damaged.
    """
    return course_of(read_lines(path))


def _mean(values: Sequence[Any], weights: Sequence[int] | None = None) -> float | None:
    """None where a value is missing, or was not finite, which is null in a log."""
    if not values or any(value is None for value in values):
        return None
    weights = weights or [1] * len(values)
    return sum(weight * float(value) for weight, value in zip(weights, values, strict=True)) / sum(weights)
