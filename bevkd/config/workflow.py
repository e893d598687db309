"""Settings of the workflow itself (config/config.yaml): which scale, which seeds of data, what jobs cost."""

from __future__ import annotations

from typing import Literal, TypeAlias

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from bevkd.config.bounds import Batch, Count, Factor, Few, Name, Positive, Seconds, Seed, Some, Words

_STRICT = ConfigDict(extra="forbid")


# One number, or one by model, format or rule; what has none of its own costs as much as the mean of the others.
Cost: TypeAlias = Seconds | dict[Name, Seconds]


@dataclass(frozen=True, config=_STRICT)
class CostConfig:
    """CPU seconds of the jobs of one scale, for the estimate of a dry run; measured with one thread, on a processor
    with bfloat16 in hardware.

    `python benchmarks/costs.py --write` sets them to what the jobs of the last run cost. A number may stand alone, or
    by model (`cache`, `evaluate`, `response`), format of the data set (`simulate`, `convert`) or rule (`report`). A
    distilled run costs `distilled` times as much per step, alike or by method, and reading a frame's teacher targets
    is part of that.

    Attributes:
        start: what any job pays for starting up.
        simulate, convert: of making a data set, or its index.
        cache: of one entry of a teacher cache (a frame under one augmentation), by the teacher's model.
        evaluate, response: of one job, by the run's model.
        report: of one table, figure, part of the results or page.
        other: rule -> seconds of one of its jobs.
        distilled: factor of a step with a teacher, by the kind of its method.
        per_step: model -> seconds of a training step.
        float32: how many times as long it takes where `precision: auto` is float32.
    """

    start: Seconds = 5.0
    simulate: Cost = 0.0
    convert: Cost = 0.0
    cache: Cost = 0.0
    evaluate: Cost = 0.0
    response: Cost = 0.0
    report: Cost = 0.0
    other: dict[Name, Seconds] = Field(default_factory=dict)
    distilled: Factor | dict[Name, Factor] = 1.1
    per_step: dict[Name, Seconds] = Field(default_factory=dict)
    float32: Factor = 1.0

    def of(self, what: str, which: str = "") -> float:
        """Seconds of one job or entry of a kind, of this model or format, without the start."""
        return _which(getattr(self, what) if what in _KINDS else self.other.get(what, 0.0), which)

    def factor(self, method: str) -> float:
        """How many times as much a step with a teacher costs, by a method of this kind; "": without one."""
        return _which(self.distilled, method) if method else 1.0


def _which(cost: Cost, which: str) -> float:
    if isinstance(cost, dict):
        return cost.get(which, sum(cost.values()) / len(cost) if cost else 0.0)
    return cost


_KINDS = ("simulate", "convert", "cache", "evaluate", "response", "report")


@dataclass(frozen=True, config=_STRICT)
class BenchConfig:
    """How many steps a benchmark of one scale takes, and how often it is repeated.

    Attributes:
        warmup: steps before any is timed.
        steps: that are timed.
        repeats: each in a process of its own.
    """

    warmup: Count = 50
    steps: Positive = 200
    repeats: Some = 3
    batch: Batch | None = None  # labelled frames per step; none: as in training


@dataclass(frozen=True, config=_STRICT)
class WorkflowConfig:
    """config/config.yaml. Threads, memory and partitions are not here: they belong to rules and profiles.

    Attributes:
        scale: what is made: a file of config/scales.
    """

    scale: Name = "sim"
    seed: Seed = 0  # of the simulated data set
    seeds: Few = 0  # only the first so many seeds of each run; 0: all
    gpus: Few | Literal["auto"] = "auto"  # GPU jobs at a time; auto: what this machine has; 0: CPU
    gpus_per_run: Some = 1  # more than one: training through torchrun (DDP)
    cost: dict[Name, CostConfig] = Field(default_factory=dict)  # by scale
    bench: dict[Name, BenchConfig] = Field(default_factory=dict)  # by scale
    # By scale: CPU minutes of the estimate of `all`, per paper; `a + b` share theirs, `other` is for any other paper
    budget: dict[Name, dict[Words, Seconds]] = Field(default_factory=dict)
