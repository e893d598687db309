"""Metrics over a training, from its snapshots."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from bevkd.config import RunConfig
from bevkd.errors import ConfigError, nearest
from bevkd.report.figure_kinds import TrainingCurves
from bevkd.report.metrics import TRAINING, metric
from bevkd.report.runs import Runs
from bevkd.report.spec import load_tables, pool
from bevkd.report.style import MARKERS, PALETTE, axes_grid, canvas, legend_outside
from bevkd.report.tables import published

WHOSE = ("ours", "paper")  # above and below


def progress(config: RunConfig) -> tuple[str, float]:
    """What the length of a schedule is counted in, and its length."""
    return ("training step", config.train.steps) if config.train.steps > 0 else ("epoch", config.train.epochs)


def snapshot_values(runs: Runs, run: str, split: str, keys: Iterable[str]) -> dict[int, dict[float, dict[str, float]]]:
    """Metrics per seed and share of the schedule, in printed units; share 1 is the model itself.

    Raises:
        ConfigError: the run keeps no snapshots.
        DataError: one has no metrics file.
    """
    keys, parts = list(keys), _parts(runs, run)
    found = runs.values(run, split, [key + part for part in parts.values() for key in keys])
    return {
        seed: {share: {key: values[key + part] for key in keys} for share, part in parts.items()}
        for seed, values in found.items()
    }


def _parts(runs: Runs, run: str) -> dict[float, str]:
    """Share of the schedule -> how metrics of the snapshot there end."""
    count = runs.snapshots(run)
    return {number / count: f"@{TRAINING}{number}/{count}" for number in range(1, count + 1)}


def training_curves(spec: TrainingCurves, runs: Runs) -> Figure:
    """A panel per metric: mean and standard deviation over the seeds of a run; below, what the paper has.

    Raises:
        ConfigError: some schedules are counted in steps, others in epochs; `published` is no table.
        DataError: a snapshot has no metrics file.
    """
    printed = _printed(spec, runs)
    figure = canvas(4.2 * len(spec.metrics), 6.6 if printed else 3.8)  # the legend below the panels included
    ours, *below = axes_grid(figure, 2 if printed else 1, len(spec.metrics))
    units: set[str] = set()
    for i, curve in enumerate(spec.curves):
        look: dict[str, Any] = {"color": PALETTE[i], "marker": MARKERS[i], "ms": 6}
        for run in pool(curve.run):
            found = snapshot_values(runs, run, spec.split, spec.metrics)
            unit, length = progress(runs.config(run))
            units.add(unit)
            shares = sorted(next(iter(found.values())))
            for axes, key in zip(ours, spec.metrics, strict=True):
                values = metric(key).shown.factor * np.array(
                    [[seed[share][key] for share in shares] for seed in found.values()]
                )
                x, mean = length * np.array(shares), values.mean(axis=0)
                spread = values.std(axis=0, ddof=1) if len(values) > 1 else 0.0
                axes.plot(x, mean, label=curve.label, **look)
                axes.fill_between(x, mean - spread, mean + spread, color=PALETTE[i], alpha=0.2, lw=0)
            for axes, key in zip(below[0] if below else (), spec.metrics, strict=bool(below)):
                theirs = printed.get(run, {})
                parts = {share: key + part for share, part in _parts(runs, run).items() if key + part in theirs}
                points = [metric(key).shown.factor * theirs[part] for part in parts.values()]
                axes.plot(list(parts), points, mfc="white", ls="--", **look)
    if len(units) > 1:
        raise ConfigError(f"figure {spec.name!r}: some schedules are counted in steps, others in epochs")
    for row, xlabel, whose in zip((ours, *below), ("".join(units), "share of the training"), WHOSE, strict=False):
        for axes, key in zip(row, spec.metrics, strict=True):
            axes.set_ylabel(f"{key} {metric(key).arrow}, {metric(key).shown.unit}")
            axes.set_xlabel(xlabel)
            if below:
                axes.set_title(whose)
    handles, _ = ours[0].get_legend_handles_labels()
    legend_outside(figure, handles)
    return figure


def _printed(spec: TrainingCurves, runs: Runs) -> dict[str, dict[str, float]]:
    """Run -> metric -> published value, of the table that the figure names."""
    if not spec.published:
        return {}
    known = load_tables(runs.scale)
    if spec.published not in known:
        raise ConfigError(
            f"figure {spec.name!r}: published: unknown table {spec.published!r}{nearest(spec.published, known)}"
        )
    table = known[spec.published]
    return {run: published(table, row)[0] for row in table.rows for run in pool(row.run)}
