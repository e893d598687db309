"""Tiers: what is made when. The one place that says what belongs to which.

`preview` one seed of each paper's headline, of runs that `all` trains anyway; `all` what the source documents print;
`extended` main-paper tables and further studies, on top of `all`; `tuning` what chose settings; `demand` by name only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeAlias, TypeVar

from bevkd.errors import ConfigError

Tier: TypeAlias = Literal["preview", "all", "extended", "tuning", "demand"]
RowTier: TypeAlias = Literal["all", "extended", "tuning", "demand"]  # the preview shows rows of `all`
# What a target promises, beside its own tier. Tables of the preview show single seeds: no other target makes them.
_PROMISES: Mapping[str, tuple[str, ...]] = {"extended": ("all", "extended")}
# Rows that an item of a tier may need; those of `demand` are trained for whatever names them.
_MAY_NEED: Mapping[str, tuple[str, ...]] = {
    "preview": ("all",),
    "all": ("all", "demand"),
    "extended": ("all", "extended", "demand"),
}
T = TypeVar("T")


def promised(target: str) -> tuple[str, ...]:
    """Tiers whose tables, figures, claims and rows a target asks for."""
    return _PROMISES.get(target, (target,))


def of_target(items: Mapping[str, T], target: str) -> dict[str, T]:
    """Those items (tables, figures, claims, rows) that a target asks for."""
    return {name: item for name, item in items.items() if getattr(item, "target") in promised(target)}  # noqa: B009


def may_need(tier: str, row: Any) -> bool:
    """Whether a table, figure or claim of a tier may need the runs of a row."""
    return tier not in _MAY_NEED or row.target in _MAY_NEED[tier]


def check(name: str, tier: str, runs: Iterable[str], rows: Mapping[str, Any]) -> None:
    """A tier needs no runs of a later one.

    Raises:
        ConfigError: it does.
    """
    for run in runs:
        if not may_need(tier, rows[run]):
            raise ConfigError(f"{name} of tier {tier!r} needs run {run!r} of tier {rows[run].target!r}")
