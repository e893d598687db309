"""Figures of numbers: loss curves, learning curves, dots per seed."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from bevkd.report.figure_kinds import Dots, LearningCurves, LossCurves
from bevkd.report.fill import pooled
from bevkd.report.logs import DETECTION, read_lines, training_seconds
from bevkd.report.metrics import metric
from bevkd.report.runs import Runs
from bevkd.report.spec import Pool, pool
from bevkd.report.stats import t_interval
from bevkd.report.style import MARKERS, PALETTE, axes_grid, canvas, legend_outside


def loss_curves(spec: LossCurves, runs: Runs) -> Figure:
    """Mean over seeds of the smoothed loss; the band spans the seeds."""
    figure = canvas(4.6 * len(spec.panels), 4.0)
    (row,) = axes_grid(figure, 1, len(spec.panels), sharey=True)
    seeds = 0
    for axes, panel in zip(row, spec.panels, strict=True):
        for i, curve in enumerate(panel.curves):
            for run in pool(curve.run):
                steps, values = runs.curves(run, spec.field, spec.window)
                seeds = len(values)
                axes.plot(steps, values.mean(axis=0), color=PALETTE[i], label=curve.label)
                axes.fill_between(steps, values.min(axis=0), values.max(axis=0), color=PALETTE[i], alpha=0.2, lw=0)
        axes.set_title(panel.title)
        axes.set_xlabel("training step")
        # Every curve starts with a large loss; the differences lie below, and a log axis keeps both readable.
        axes.set_yscale("log")
        axes.yaxis.set_minor_formatter("{x:.2g}")
        axes.yaxis.set_major_formatter("{x:.2g}")
    window = f"moving average over {spec.window:.0%} of the steps"
    row[0].set_ylabel("detection loss" if spec.field == DETECTION else f"loss {spec.field}")
    handles, _ = row[0].get_legend_handles_labels()
    title = f"mean and range of {seeds} seeds, {window}" if seeds > 1 else window
    legend_outside(figure, handles, title=title)
    return figure


_TAKEN = {
    "steps": "training steps (each point a full schedule)",
    "core_seconds": "core-seconds of training (each point a full schedule)",
}


def points(spec: LearningCurves, runs: Runs) -> pd.DataFrame:
    """The points of learning curves in printed units, a line each: steps, mean and range over the seeds of a run."""
    out: list[dict[str, Any]] = []
    for series in spec.series:
        lines = []
        for run in series.resolve(runs.rows):
            config, seeds = runs.config(run), runs.values(run, spec.split, spec.metrics)
            drawn = {key: [values[key] for values in seeds.values()] for key in spec.metrics}
            if spec.over == "core_seconds":  # the time of the steps on all threads
                logs = [read_lines(runs.file("log", run, seed, spec.split)) for seed in seeds]
                drawn = {spec.over: [config.train.threads * training_seconds(log) for log in logs]} | drawn
            line = dict[str, Any](series=series.label, run=run, steps=config.train.steps, seeds=len(seeds))
            for key, values in drawn.items():
                line |= {key: float(np.mean(values)), f"{key}_low": min(values), f"{key}_high": max(values)}
            lines.append(line)
        out += sorted(lines, key=lambda line: float(line[spec.over]))
    return pd.DataFrame(out)


def learning_curves(spec: LearningCurves, runs: Runs) -> Figure:
    """One panel per metric; a point is the mean over the seeds of a run, its bar their range."""
    found = points(spec, runs)
    figure = canvas(4.2 * len(spec.metrics), 3.8)  # the legend below the panels included
    (row,) = axes_grid(figure, 1, len(spec.metrics))
    for i, series in enumerate(spec.series):
        line = found[found["series"] == series.label]
        for axes, key in zip(row, spec.metrics, strict=True):
            mean, low, high = (line[name] * metric(key).shown.factor for name in (key, f"{key}_low", f"{key}_high"))
            look: dict[str, Any] = {"color": PALETTE[i], "marker": MARKERS[i], "ms": 6, "capsize": 3}
            axes.errorbar(line[spec.over], mean, yerr=[mean - low, high - mean], label=series.label, **look)
    for axes, key in zip(row, spec.metrics, strict=True):
        axes.set_ylabel(f"{key} {metric(key).arrow}, {metric(key).shown.unit}")
        axes.set_xlabel(_TAKEN[spec.over])
        axes.set_ylim(bottom=0)
    handles, _ = row[0].get_legend_handles_labels()
    legend_outside(figure, handles)
    return figure


def dots(spec: Dots, runs: Runs) -> Figure:
    """A dot per seed, the mean as a bar and its 95 % t interval as whiskers; panels share the axis."""
    counts = [len(panel.curves) for panel in spec.panels]
    figure = canvas(1.0 + 0.95 * sum(counts), 3.8)
    (row,) = axes_grid(figure, 1, len(counts), sharey=True, width_ratios=counts)
    shown = metric(spec.metric).shown

    def found(which: Pool) -> list[float]:
        return [v[spec.metric] * shown.factor for v in pooled(runs, which, "report", [spec.metric]).values()]

    level = None if spec.baseline is None else float(np.mean(found(spec.baseline)))
    for place, (axes, panel) in enumerate(zip(row, spec.panels, strict=True)):
        if level is not None:
            axes.axhline(level, color="0.4", ls="--", lw=1.2, zorder=1)
        for x, curve in enumerate(panel.curves):
            values = found(curve.run)
            interval = t_interval(values)
            shade = PALETTE[place % len(PALETTE)]
            if not math.isnan(interval.low):
                half = interval.high - interval.mean
                axes.errorbar(x, interval.mean, yerr=half, color=shade, capsize=5, lw=1.5, zorder=3)
            axes.plot([x - 0.28, x + 0.28], [interval.mean] * 2, color=shade, lw=3, zorder=3, solid_capstyle="butt")
            spread = np.linspace(-0.14, 0.14, len(values)) if len(values) > 1 else [0.0]
            axes.scatter(x + np.asarray(spread), values, s=34, color=shade, edgecolor="white", lw=0.8, zorder=4)
            box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.8}
            axes.annotate(
                f"{interval.mean:.{shown.digits}f}",
                (x + 0.33, interval.mean),
                fontsize=8,
                va="center",
                bbox=box,
                zorder=2,
            )
        axes.set_title(panel.title)
        axes.set_xticks(range(len(panel.curves)), [c.label for c in panel.curves], rotation=20, ha="right")
        axes.set_xlim(-0.6, len(panel.curves) - 0.3)
        axes.grid(axis="x", visible=False)
    row[0].set_ylabel(f"{spec.metric}, {shown.unit}")
    return figure
