"""Numbers of pairs of runs in the same frames: events, and how alike their attention is."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from bevkd.config.chain import needed_by
from bevkd.eval.attention import Likeness, likeness, read_attention
from bevkd.report.events import counts, read_matches
from bevkd.report.metrics import Source, metric, value_of
from bevkd.report.runs import Runs

logger = logging.getLogger(__name__)
_Run: TypeAlias = tuple[str, int]


def partner_seed(runs: Runs, run: str, seed: int, other: str) -> int:
    """Which seed of another run belongs to a seed of a run: that which it learns or starts from, else the same."""
    return dict(needed_by(runs.row(run), seed)).get(other, seed)


def partners(runs: Runs, run: str, other: str, taught: str | None = None) -> dict[int, int]:
    """Seeds of a run and of the other one that belong together; those without a partner are left out.

    Args:
        runs: the finished runs.
        run: one of the two.
        other: the other one.
        taught: run whose partners these are, where two runs are compared with the same third one; none: `run`.
    """
    pairs = {seed: partner_seed(runs, taught or run, seed, other) for seed in runs.row(run).seeds}
    return {seed: theirs for seed, theirs in pairs.items() if theirs in runs.row(other).seeds}


def pair_values(
    runs: Runs, run: str, other: str, split: str, keys: Iterable[str], taught: str | None = None
) -> dict[int, dict[str, float]]:
    """Metrics of pairs of runs per seed of `run`: `{seed: {key: value}}`; arguments as of `partners`.

    Raises:
        DataError: a run lacks a file, or the two are not of the same frames; the message names the file.
    """
    by_kind: dict[Source, list[str]] = {}
    for key in keys:
        by_kind.setdefault(metric(key).file, []).append(key)
    out: dict[int, dict[str, float]] = {}
    for seed, theirs in partners(runs, run, other, taught).items():
        out[seed] = {}
        for kind, wanted in by_kind.items():
            found, file = _MEASURES[kind](runs, (run, seed), (other, theirs), split)
            out[seed] |= {key: value_of(found, key, file) for key in wanted}
    return out


def _events(runs: Runs, mine: _Run, other: _Run, split: str) -> tuple[Any, Path]:
    one = read_matches(runs, *mine, split)
    return counts(one, read_matches(runs, *other, split)), one.file


def attention_likeness(runs: Runs, mine: _Run, other: _Run, split: str) -> Likeness:
    """How alike the attention of two (run, seed) is.

    Raises:
        DataError: a file is missing, or they are not of the same frames and grid.
    """
    return likeness(*(read_attention(runs.existing("attention", *one, split)) for one in (mine, other)))


def _attention(runs: Runs, mine: _Run, other: _Run, split: str) -> tuple[Any, Path]:
    found = attention_likeness(runs, mine, other, split)
    return {"near": found.near, "far": found.far}, runs.file("attention", *mine, split)


_MEASURES: Mapping[Source, Callable[[Runs, _Run, _Run, str], tuple[Any, Path]]] = {
    "matches": _events,
    "attention": _attention,
}
