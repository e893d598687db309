"""How a paper trains: `config/papers/<paper>/recipe.yaml`, between a scale's sections and a row's own settings."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import field
from typing import Any

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from bevkd.config.bounds import Few, Name, Words
from bevkd.config.training import InitConfig

_STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True, config=_STRICT)
class RecipePart:
    """Settings of those of a paper's rows that meet every condition; without conditions, of all. Later parts win.

    Attributes:
        scales: names of scales.
        models: names of models; one that is `like` another counts as that one, too.
        datasets: names of data sets.
        init: weights that rows start from which name none themselves (`init: []` in a row: from its seed alone).
        model: settings of the model, as in config/models.
        data: settings of the data.
        train: settings of the training.
    """

    scales: tuple[Name, ...] = ()
    models: tuple[Name, ...] = ()
    datasets: tuple[Name, ...] = ()
    init: InitConfig | tuple[InitConfig, ...] | None = None
    model: dict[Words, Any] = field(default_factory=dict)
    data: dict[Words, Any] = field(default_factory=dict)
    train: dict[Words, Any] = field(default_factory=dict)

    def applies(self, scale: str, dataset: str, models: Collection[str]) -> bool:
        """Whether it is for a row on this data set, with these models (its own and what that one is like)."""
        return (
            (not self.scales or scale in self.scales)
            and (not self.datasets or dataset in self.datasets)
            and (not self.models or not set(models).isdisjoint(self.models))
        )

    @property
    def settings(self) -> dict[str, Any]:
        """What it sets."""
        parts = {"model": self.model, "data": self.data, "train": self.train}
        return {name: part for name, part in parts.items() if part}


@dataclass(frozen=True, config=_STRICT)
class Recipe:
    """A paper's recipe.

    Attributes:
        paper: the paper's name in config/reference; `bevkd` for studies of our own.
        like: the folder of the paper whose recipe, with what that one is like, comes before the parts.
        place: among the papers of tables and page, from 1; those without one come last.
        parts: what this one sets.
    """

    paper: Name = "bevkd"
    like: Name | None = None
    place: Few = 0
    parts: tuple[RecipePart, ...] = ()
