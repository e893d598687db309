"""Which (run, seed) pairs a table, figure or claim reads, and what kind of file of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, TypeAlias

from bevkd.config import RowConfig
from bevkd.config.bounds import SplitNames
from bevkd.config.chain import find_row
from bevkd.report.metrics import Source

# The roles `report` and `tune`, which every data set gives to a split of its own, or the name of any other split.
Split: TypeAlias = SplitNames
Artefact: TypeAlias = Source | Literal["model"]
Need: TypeAlias = tuple[str, int]
# Measured once for a run, whatever its seeds.
UNSEEDED: frozenset[Artefact] = frozenset(("cost", "profile"))


def needs_of(runs: Iterable[str], rows: Mapping[str, RowConfig], where: str) -> list[Need]:
    """(run, seed) pairs of the runs in order, without repetition.

    Raises:
        ConfigError: a run id is unknown; the message names `where` it is used.
    """
    out: dict[Need, None] = {}
    for run in runs:
        out |= {(run, seed): None for seed in find_row(run, rows, where).seeds}
    return list(out)


def first_of(needs: Iterable[Need], rows: Mapping[str, RowConfig]) -> list[Need]:
    """Each run once, with its first seed."""
    return [(run, rows[run].seeds[0]) for run in dict.fromkeys(run for run, _ in needs)]
