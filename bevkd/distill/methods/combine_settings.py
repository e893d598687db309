"""Options of a combination, and what its methods tap."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from bevkd.config import MethodConfig
from bevkd.config.bounds import Name, Weight, Words
from bevkd.distill.settings import MethodSettings, method_settings
from bevkd.distill.tap import Tap
from bevkd.registry import register_settings


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class PartConfig:
    """One method of a combination; `weight` multiplies all its loss weights.

    Attributes:
        kind: name of the method.
        options: its own.
        weight: factor of all its losses.
    """

    kind: Name
    options: dict[Words, Any] = Field(default_factory=dict)
    weight: Weight = 1.0

    @property
    def method(self) -> MethodConfig:
        """The method without its factor."""
        return MethodConfig(self.kind, self.options)


@register_settings("method", "combine")
@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class CombineConfig(MethodSettings):
    """The methods to combine, in order.

    Attributes:
        methods: in order.
    """

    methods: tuple[PartConfig, ...] = ()

    @property
    def parts(self) -> list[MethodSettings]:
        """The settings of the methods.

        Raises:
            ConfigError: unknown method; unknown key or wrong type in its options.
        """
        return [method_settings(part.method) for part in self.methods]

    @property
    def uses_teacher(self) -> bool:
        """Where one of the methods does."""
        return any(part.uses_teacher for part in self.parts)

    @property
    def needs_boxes(self) -> bool:
        """Where one of the methods does."""
        return any(part.needs_boxes for part in self.parts)

    def taps(self) -> dict[str, Tap]:
        """All taps, prefixed by the method's position."""
        return {f"{i}.{name}": tap for i, part in enumerate(self.parts) for name, tap in part.taps().items()}
