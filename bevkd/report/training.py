"""Metrics over a training, from its snapshots."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from matplotlib.figure import Figure

from bevkd.config import RunConfig
from bevkd.errors import ConfigError
from bevkd.report.figure_kinds import TrainingCurves
from bevkd.report.metrics import TRAINING, metric
from bevkd.report.runs import Runs
from bevkd.report.spec import pool
from bevkd.report.style import MARKERS, PALETTE, axes_grid, canvas, legend_outside


def progress(config: RunConfig) -> tuple[str, float]:
    """What the length of a schedule is counted in, and its length."""
    return ("training step", config.train.steps) if config.train.steps > 0 else ("epoch", config.train.epochs)


def snapshot_values(runs: Runs, run: str, split: str, keys: Iterable[str]) -> dict[int, dict[float, dict[str, float]]]:
    """Metrics per seed and share of the schedule, in printed units; share 1 is the model itself.

    Raises:
        ConfigError: the run keeps no snapshots.
        DataError: one has no metrics file.
    """
    keys, count = list(keys), runs.snapshots(run)
    parts = {number / count: f"@{TRAINING}{number}/{count}" for number in range(1, count + 1)}
    found = runs.values(run, split, [key + part for part in parts.values() for key in keys])
    return {
        seed: {share: {key: values[key + part] for key in keys} for share, part in parts.items()}
        for seed, values in found.items()
    }


def training_curves(spec: TrainingCurves, runs: Runs) -> Figure:
    """A panel per metric: the mean over the seeds of a run; the band spans them."""
    figure = canvas(4.2 * len(spec.metrics), 3.8)  # the legend below the panels included
    (row,) = axes_grid(figure, 1, len(spec.metrics))
    units: set[str] = set()
    for i, curve in enumerate(spec.curves):
        for run in pool(curve.run):
            found = snapshot_values(runs, run, spec.split, spec.metrics)
            unit, length = progress(runs.config(run))
            units.add(unit)
            shares = sorted(next(iter(found.values())))
            for axes, key in zip(row, spec.metrics, strict=True):
                values = metric(key).shown.factor * np.array(
                    [[seed[share][key] for share in shares] for seed in found.values()]
                )
                x = length * np.array(shares)
                axes.plot(x, values.mean(axis=0), color=PALETTE[i], marker=MARKERS[i], ms=6, label=curve.label)
                axes.fill_between(x, values.min(axis=0), values.max(axis=0), color=PALETTE[i], alpha=0.2, lw=0)
    if len(units) > 1:
        raise ConfigError(f"figure {spec.name!r}: some schedules are counted in steps, others in epochs")
    for axes, key in zip(row, spec.metrics, strict=True):
        axes.set_ylabel(f"{key} {metric(key).arrow}, {metric(key).shown.unit}")
        axes.set_xlabel("".join(units))
    handles, _ = row[0].get_legend_handles_labels()
    legend_outside(figure, handles)
    return figure
