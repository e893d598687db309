"""The splits that tables, figures and claims are of, and whether a data set has them, before anything is trained."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bevkd.config import DataConfig
from bevkd.errors import ConfigError, DataError, nearest
from bevkd.splits import split_names


def splits_read(datasets: Iterable[DataConfig], items: Iterable[Any]) -> list[str]:
    """Every split that something may be evaluated on: those of the roles `report` and `tune`, and what items name."""
    named = {getattr(item, "split", "report") for item in items} - {"report", "tune"}
    return sorted({split for data in datasets for split in (data.report_split, data.tune_split)} | named)


def require_split(data: DataConfig, split: str, scale: str, indexed: bool = True) -> None:
    """Check that a data set has a split, or several joined by `+`: evaluations come after all trainings.

    What is known is asked: the index or, before there is one, what is simulated at this scale; of real data nothing.

    Args:
        data: settings of the data set.
        split: as a split is called in it.
        scale: scale name.
        indexed: whether the index, if it is there, is the one that will be read.

    Raises:
        ConfigError: it has no such split; the message names those that it has.
    """
    simulated = _simulated(data, scale)
    if indexed and (Path(data.index) / "frames.parquet").exists():
        from bevkd.data.index import read_stamp

        try:
            facts = read_stamp(data.index)
        except DataError:  # whoever reads it says what is wrong with it
            return
        known, what = {*facts["splits"], *facts.get("lists", {})}, f"index {data.index}"
    elif simulated is not None:
        known, what = simulated, f"{data.root} as it is simulated"
    else:
        return
    for name in split_names(split):
        if name not in known:
            held = f"{nearest(name, known)}; it has: {', '.join(sorted(known))}"
            old = f". {data.root} was simulated before there was one (docs/evaluate.md says how to add it)"
            raise ConfigError(f"{what} has no split {name!r}{held}{old if name in (simulated or ()) else ''}")


def _simulated(data: DataConfig, scale: str) -> set[str] | None:
    """The splits of a simulated data set of a scale; None for a real one."""
    if data.root != f"data/{data.kind}_sim/{scale}":
        return None
    from bevkd.sim import WRITERS

    return set(WRITERS[data.kind][1][scale].splits.scenes)
