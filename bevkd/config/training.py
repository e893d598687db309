"""Settings of a training: how long, with which optimiser and schedule, and from which weights.

The defaults are no paper's: a recipe says what it wants.
"""

from __future__ import annotations

from dataclasses import dataclass as plain_dataclass
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from bevkd.config.bounds import (
    Batch,
    BatchOrNone,
    Count,
    Factor,
    Few,
    Name,
    Pattern,
    Positive,
    Processes,
    Seed,
    Share,
    Threads,
    Weight,
)
from bevkd.config.marks import VOLATILE
from bevkd.config.stages import Stage, default_stage

_STRICT = ConfigDict(extra="forbid")
WHOLE = "all"  # as a part of a network: every parameter of it


@plain_dataclass(frozen=True)
class Timeline:
    """How long a training takes.

    Attributes:
        steps: steps of the whole schedule.
        per_epoch: steps in which every labelled frame is used once.
    """

    steps: int
    per_epoch: int = 1


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Moment:
    """When in a training. Exactly one of three ways to say so.

    Attributes:
        step: after so many steps.
        fraction: after this share of the schedule.
        epoch: after so many epochs.
        of: with `epoch`, how many epochs the schedule has where the recipe was published: `{epoch: 16, of: 24}` is two
            thirds of the way also where a schedule is shorter.
    """

    step: Count | None = None
    fraction: Share | None = None
    epoch: float | None = Field(default=None, ge=0, le=1e6)
    of: float | None = Field(default=None, gt=0, le=1e6)

    def __post_init__(self) -> None:
        given = [name for name in ("step", "fraction", "epoch") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give one of step, fraction, epoch, not {', '.join(given) or 'none'}")
        if self.of is not None and self.epoch is None:
            raise ValueError("`of` belongs to `epoch`")
        if self.of is not None and self.epoch is not None and self.epoch > self.of:
            raise ValueError(f"epoch {self.epoch:g} of {self.of:g} is never reached")

    def at(self, line: Timeline) -> int:
        """Number of the first step that lies after this moment, counted from 0."""
        if self.step is not None:
            return self.step
        if self.fraction is not None:
            return round(self.fraction * line.steps)
        assert self.epoch is not None
        return round(self.epoch * line.steps / self.of if self.of is not None else self.epoch * line.per_epoch)


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class SwitchOff(Moment):
    """Parts of the data side that end before the training does, such as ground-truth pasting.

    Attributes:
        what: what is switched off.
    """

    what: tuple[Literal["gt_paste", "cbgs", "augment.image", "augment.bev"], ...] = Field(min_length=1)


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class ParameterGroup:
    """Parameters with a learning rate or weight decay of their own; the first group that matches counts.

    Attributes:
        match: a part of the network (see `bevkd.train.parts`), such as `camera.backbone` or `head`, `adapters` of a
            method, or a shell pattern of parameter names (`*relative_position_bias_table`).
        lr_factor: times the learning rate of the others.
        weight_decay: none: as the others.
        optional: also for networks that have no such part.
    """

    match: Pattern
    lr_factor: float = Field(default=1.0, ge=0, le=1e3)
    weight_decay: Share | None = None
    optional: bool = False


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class InitConfig:
    """Trained weights that a run starts from.

    Attributes:
        run: the run that was trained before.
        seed: its seed; `same`: that of the run which starts; `teacher`: that of the teacher that it learns from.
        parts: of the network (see `bevkd.train.parts`); `all` takes every parameter. What is taken must fit exactly.
        fresh: parts that only the network which starts has: layers that a later stage of a training adds.
        scales: where this holds; at others it is as if it were not said. None: everywhere.
    """

    run: Name
    seed: Literal["same", "teacher"] | Seed = "same"
    parts: tuple[Name, ...] = Field(default=(WHOLE,), min_length=1)
    fresh: tuple[Name, ...] = ()
    scales: Annotated[tuple[Name, ...], VOLATILE] = ()


@dataclass(frozen=True, config=_STRICT)
class TrainConfig:
    """Optimisation. `steps` wins over `epochs` when it is positive.

    Attributes:
        steps: length of the training; 0: as `epochs` say.
        epochs: how often every labelled frame is used.
        switch_off: what ends before the training does.
        precision: `auto`: bfloat16 where the hardware has it.
        sync_bn: batch statistics over all processes.
        checkpoint_every: steps between checkpoints to resume from.
        log_every: steps between lines of the log.
        threads: of each process.
        optimizer: how weights move.
        schedule: how the learning rate goes.
    """

    steps: Count = 0
    steps_factor: Factor = 1.0  # on the schedule of any scale; applied when the run is resolved
    epochs: Annotated[int, Field(ge=1, le=1_000_000)] = 1
    batch_size: Batch = 1  # labelled frames of a global batch
    # Beside them, so that a student sees as many labels as its baseline.
    unlabelled_per_batch: BatchOrNone = 0
    accumulate: Batch = 1  # parts in which a process works through its batch, to save memory
    lr: float = Field(default=1e-3, gt=0, le=100)  # what the schedule makes of it, see `bevkd.train.schedules`
    optimizer: Annotated[Any, Stage("optimizer", "adamw")] = default_stage("optimizer", "adamw")
    schedule: Annotated[Any, Stage("schedule", "constant")] = default_stage("schedule", "constant")
    grad_clip: Weight = 0.0  # largest norm of the gradient; 0: no limit
    switch_off: tuple[SwitchOff, ...] = ()
    precision: Literal["fp32", "bf16", "fp16", "auto"] = "fp32"
    sync_bn: bool = True
    snapshots: Annotated[Few, VOLATILE] = 0  # equal parts of the schedule, each with its weights
    checkpoint_every: Annotated[Positive, VOLATILE] = 200
    log_every: Annotated[Positive, VOLATILE] = 10
    # Processes that prepare samples; `auto`: as cores allow.
    workers: Annotated[Processes | Literal["auto"], VOLATILE] = "auto"
    threads: Annotated[Threads, VOLATILE] = 1
    # Another order of the frames from the same seed; weights stay those of the seed.
    order: Seed = 0
    reference_batch: Count = 0  # > 0: lr is scaled by batch_size / reference_batch
    frames_limit: Count = 0  # > 0: train on the first n frames only (over-fitting tests)

    @property
    def frames_per_batch(self) -> int:
        """Labelled and unlabelled frames of a global batch."""
        return self.batch_size + self.unlabelled_per_batch
