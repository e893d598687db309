"""Settings of the workflow itself (config/config.yaml): which scale, which seeds of data, what jobs cost."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

_STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True, config=_STRICT)
class CostConfig:
    """CPU seconds of the jobs of one scale, for the estimate of a dry run; measured with one thread.

    `per_step` is by model; a distilled run costs `distilled` times as much per step, and reading a frame's teacher
    targets is part of that. `start` is what any job pays for starting up.

    Attributes:
        start: of every job.
        simulate, convert, cache, evaluate, report: of one job of this kind.
        distilled: factor of a step with a teacher.
        per_step: model -> seconds of a training step.
    """

    start: float = 5.0
    simulate: float = 0.0
    convert: float = 0.0
    cache: float = 0.0
    evaluate: float = 0.0
    report: float = 0.0
    distilled: float = 1.1
    per_step: dict[str, float] = Field(default_factory=dict)


@dataclass(frozen=True, config=_STRICT)
class BenchConfig:
    """How many steps a benchmark of one scale takes, and how often it is repeated.

    Attributes:
        warmup: steps before any is timed.
        steps: that are timed.
        repeats: each in a process of its own.
    """

    warmup: int = Field(default=50, ge=0)
    steps: int = Field(default=200, ge=1)
    repeats: int = Field(default=3, ge=1)
    batch: int | None = Field(default=None, ge=1)  # labelled frames per step; none: as in training


@dataclass(frozen=True, config=_STRICT)
class WorkflowConfig:
    """config/config.yaml. Threads, memory and partitions are not here: they belong to rules and profiles.

    Attributes:
        scale: what is made: a file of config/scales.
    """

    scale: str = "sim"
    seed: int = 0  # of the simulated data set
    seeds: int = Field(default=0, ge=0)  # only the first so many seeds of each run; 0: all
    gpus: int | Literal["auto"] = "auto"  # GPU jobs at a time; auto: what this machine has; 0: CPU
    gpus_per_run: int = Field(default=1, ge=1)  # more than one: training through torchrun (DDP)
    cost: dict[str, CostConfig] = Field(default_factory=dict)  # by scale
    bench: dict[str, BenchConfig] = Field(default_factory=dict)  # by scale
