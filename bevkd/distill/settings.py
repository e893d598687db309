"""What the settings of every method have in common: they say what is tapped, without a network or a tensor library."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar, cast

from bevkd.config import MethodConfig
from bevkd.config.identity import parse_options
from bevkd.distill.tap import Tap, Wanted, as_columns

P = TypeVar("P", bound=str)


class MethodSettings:
    """Base class of the settings of methods, which are frozen dataclasses. Defaults are the paper's."""

    def taps(self) -> dict[str, Tap]:
        """What the losses read of the teacher, by the names of the targets."""
        raise NotImplementedError

    @property
    def uses_teacher(self) -> bool:
        """False for controls that only re-weight the supervised loss."""
        return True

    @property
    def needs_boxes(self) -> bool:
        """Whether the losses read boxes, so that the teacher's have to stand in on unlabelled frames."""
        return True

    def wanted(self) -> Wanted:
        """What is wanted of the teacher in a step."""
        taps = self.taps()
        return Wanted(taps, self.needs_boxes or any(tap.at_boxes() for tap in taps.values()))

    def cached(self) -> Wanted:
        """The same by the names of the columns of a cache."""
        return as_columns(self.taps().values(), self.needs_boxes)


def losses_in_use(settings: MethodSettings, weights: object, losses: Sequence[P]) -> tuple[P, ...]:
    """Those of some losses, each of which has a switch and a weight by its name, that count."""
    return tuple(name for name in losses if getattr(settings, name).enabled and getattr(weights, name) != 0)


def method_settings(config: MethodConfig) -> MethodSettings:
    """The checked settings of a row's method.

    Raises:
        ConfigError: unknown method; unknown key or wrong type in the options.
    """
    return cast(MethodSettings, parse_options(config.kind, config.options))
