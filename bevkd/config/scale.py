"""What a scale (config/scales/*.yaml) says beside settings: rules for some rows, and runs that stand for others."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable
from dataclasses import field
from typing import Any, Literal, TypeAlias

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from bevkd.config.schema import RowConfig
from bevkd.errors import ConfigError

_STRICT = ConfigDict(extra="forbid")
Kind: TypeAlias = Literal["tables", "figures", "claims"]
# Name of a table, figure or claim (or a shell pattern of names) -> run id -> the run that stands for it at this scale.
Substitutes: TypeAlias = dict[str, dict[str, str]]


@dataclass(frozen=True, config=_STRICT)
class RuleConfig:
    """Settings for the experiment rows that meet every condition; they win over the rows' own.

    Attributes:
        runs: shell patterns of run ids; one of them must match.
        models: names of models; none: any.
        datasets: names of data sets; none: any.
        set: the settings.
        teacher_mode: whether their teachers run in the step or come from a cache; none: as the rows say.
    """

    set: dict[str, Any] = Field(default_factory=dict)
    teacher_mode: Literal["cached", "live"] | None = None
    runs: tuple[str, ...] = ("*",)
    models: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()

    def applies(self, row: RowConfig) -> bool:
        """Whether a row meets the conditions."""
        return (
            any(fnmatch.fnmatchcase(row.id, pattern) for pattern in self.runs)
            and (not self.models or row.model in self.models)
            and (not self.datasets or row.dataset in self.datasets)
        )


@dataclass(frozen=True, config=_STRICT)
class ScaleConfig:
    """A file of config/scales. Later parts win: `common`, `stages`, `datasets`, `models`, the row's own, `rules`.

    Attributes:
        common: settings of every run.
        stages: settings by stage and the kind that is chosen for it, such as `lidar: {pillar: {cell: 0.4}}`.
        datasets, models: settings of runs on a data set, of a model.
    """

    common: dict[str, Any] = Field(default_factory=dict)
    stages: dict[str, dict[str, dict[str, Any]]] = Field(default_factory=dict)
    datasets: dict[str, dict[str, Any]] = Field(default_factory=dict)
    models: dict[str, dict[str, Any]] = Field(default_factory=dict)
    rules: tuple[RuleConfig, ...] = ()
    instead: dict[Kind, Substitutes] = field(default_factory=dict)

    def check(self, scale: str, rows: Iterable[RowConfig]) -> None:
        """Every rule has a row that it is for.

        Raises:
            ConfigError: one has not.
        """
        known = list(rows)
        for number, rule in enumerate(self.rules):
            for pattern in rule.runs:
                if not any(fnmatch.fnmatchcase(row.id, pattern) for row in known):
                    raise ConfigError(f"scale {scale!r}: rule {number}: no run is called {pattern!r}")
            if not any(rule.applies(row) for row in known):
                raise ConfigError(f"scale {scale!r}: rule {number} is for no run")

    def substitutes(self, kind: Kind, name: str) -> dict[str, str]:
        """Run id -> the run that stands for it in one table, figure or claim."""
        out: dict[str, str] = {}
        for pattern, runs in self.instead.get(kind, {}).items():
            if fnmatch.fnmatchcase(name, pattern):
                out |= runs
        return out


def substituted(content: Any, runs: dict[str, str]) -> Any:
    """Plain YAML content with run ids replaced wherever a whole string is one."""
    if isinstance(content, dict):
        return {key: substituted(value, runs) for key, value in content.items()}
    if isinstance(content, list):
        return [substituted(value, runs) for value in content]
    return runs.get(content, content) if isinstance(content, str) else content
