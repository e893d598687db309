"""What a scale (config/scales/*.yaml) says."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from bevkd.config.bounds import Name, Words


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class ScaleConfig:
    """A file of config/scales. Later parts win: `common`, `stages`, `datasets`, `models`, then papers and rows.

    Attributes:
        common: settings of every run.
        stages: settings by stage and the kind that is chosen for it, such as `lidar: {pillar: {cell: 0.4}}`. A stage is
            named by its key in the model, or by its slot where several keys are to have the same:
            `compensation: {attention: {heads: 4}}`. The later one wins.
        datasets: settings by data set.
        models: settings by model.
        methods: options of distillation methods, by the method's name, below those of rows: lengths that scale with the
            world, such as `crkd: {msfd: {r1: 10}}`.
        notes: what stands below every table.
        image_weights_required: whether every image backbone must say which weights it starts from.
        teacher_mode: whether teachers run in the step or come from a cache; none: as the rows say.
    """

    common: dict[Words, Any] = Field(default_factory=dict)
    stages: dict[Name, dict[Name, dict[Words, Any]]] = Field(default_factory=dict)
    datasets: dict[Name, dict[Words, Any]] = Field(default_factory=dict)
    models: dict[Name, dict[Words, Any]] = Field(default_factory=dict)
    methods: dict[Name, dict[Words, Any]] = Field(default_factory=dict)
    notes: tuple[Words, ...] = ()
    image_weights_required: bool = False
    teacher_mode: Literal["cached", "live"] | None = None
