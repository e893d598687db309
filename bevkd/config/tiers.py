"""Tiers: what is made when. The one place that says what belongs to which.

`preview` one seed of each paper's headline, of runs that `all` trains anyway; `all` what the source documents print;
`extended` main-paper tables and further studies, on top of `all`; `tuning` what chose settings; `demand` by name only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeAlias, TypeVar

from bevkd.errors import ConfigError

Tier: TypeAlias = Literal["preview", "all", "extended", "tuning", "demand"]
# What a target promises, beside its own tier; the tables of the preview show single seeds, so no other target makes them.
_PROMISES: Mapping[str, tuple[str, ...]] = {"extended": ("all", "extended")}
# What has been run where the runs of a tier are there.
_HAVE_RUN: Mapping[str, tuple[str, ...]] = {"preview": ("all",), "extended": ("all", "extended")}
T = TypeVar("T")


def promised(target: str) -> tuple[str, ...]:
    """Tiers whose tables, figures, claims and rows a target asks for."""
    return _PROMISES.get(target, (target,))


def of_target(items: Mapping[str, T], target: str) -> dict[str, T]:
    """Those items (tables, figures, claims, rows) that a target asks for."""
    return {name: item for name, item in items.items() if getattr(item, "target") in promised(target)}  # noqa: B009


def have_run(tier: str, row: Any) -> bool:
    """Whether an item of a tier can count on a row's runs."""
    return row.target in _HAVE_RUN.get(tier, ("all", tier))


def check(name: str, tier: str, runs: Iterable[str], rows: Mapping[str, Any]) -> None:
    """What a tier makes needs runs of that tier only.

    Raises:
        ConfigError: it needs another one.
    """
    for run in runs:
        if tier in ("preview", "all", "extended") and not have_run(tier, rows[run]):
            raise ConfigError(f"{name} of tier {tier!r} needs run {run!r} of tier {rows[run].target!r}")
