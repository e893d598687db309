"""The figure of the first screen for print: effects of the headline comparisons, with intervals and controls."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from textwrap import wrap
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bevkd.report.claims import CONTRADICTED, INCONCLUSIVE, REPRODUCED
from bevkd.report.effects import numbers
from bevkd.report.metrics import metric
from bevkd.report.story import Headline
from bevkd.report.style import PALETTE, axes_grid, canvas, legend_outside, save, style

_BASELINE, _CONTROL, _PAPER = PALETTE[0], PALETTE[5], "0.45"
_LOOK = {REPRODUCED: PALETTE[0], CONTRADICTED: PALETTE[5], INCONCLUSIVE: "0.35"}
_ROW = 0.36  # inches
_WIDE = 40  # characters of a name in one line


def draw(known: Sequence[Headline], titles: Mapping[str, str]) -> Figure:
    """A panel per unit, a row per comparison; filled: over the baseline, open: over the strongest control.

    Args:
        known: what is shown, at least one.
        titles: paper -> its heading.
    """
    units: dict[str, list[Headline]] = {}
    for item in known:
        units.setdefault(metric(item.finding.metric).shown.unit, []).append(item)
    heights = [
        sum(len(list(items)) + 1 for _, items in groupby(one, lambda item: item.paper)) for one in units.values()
    ]
    figure = canvas(8.2, _ROW * sum(heights) + 1.3 * len(units))
    grid = axes_grid(figure, len(units), 1, height_ratios=heights)
    for (axes,), (unit, items) in zip(grid, units.items(), strict=True):
        _panel(axes, items, titles)
        axes.set_xlabel(f"gain in points ({unit}), 95 % interval")
    handles, labels = grid[0][0].get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    legend_outside(figure, unique.values(), "outside upper center")
    return figure


def _panel(axes: Axes, items: Sequence[Headline], titles: Mapping[str, str]) -> None:
    at, places, labels = 0.0, [], []
    axes.axvline(0.0, color="0.3", lw=1.2, zorder=1)
    for paper, group in groupby(items, lambda item: item.paper):
        axes.text(
            0.0, at, titles[paper] + " ", transform=axes.get_yaxis_transform(), ha="right", va="center", weight="bold"
        )
        at += 1
        for item in group:
            baseline, control, printed = numbers(item)
            _mark(axes, at - 0.14, baseline, "over the baseline", color=_BASELINE, marker="o")
            _mark(axes, at + 0.16, control, "over the strongest control", color=_CONTROL, marker="D", mfc="white")
            _mark(axes, at, printed, "published gain", color=_PAPER, marker="|", ms=11, mew=2.2)
            verdict, why = item.finding.counted, item.finding.correction
            beside: dict[str, Any] = {"color": _LOOK[verdict], "transform": axes.get_yaxis_transform(), "va": "center"}
            axes.text(1.01, at - (0.16 if why else 0.0), verdict, fontsize=9, **beside)
            if why:
                axes.text(1.01, at + 0.2, why, fontsize=7, **beside)
            places.append(at)
            labels.append("\n".join(wrap(item.label, _WIDE)))
            at += 1
    axes.set_yticks(places, labels)
    axes.set_ylim(at - 0.4, -0.6)
    axes.grid(axis="y", visible=False)


def _mark(axes: Axes, at: float, found: tuple[float, float, float], label: str, **look: object) -> None:
    """A mean with its interval, if it has them."""
    mean, low, high = found
    if math.isnan(mean):
        return
    spread = None if math.isnan(low) else [[mean - low], [high - mean]]
    axes.errorbar([mean], [at], xerr=spread, label=label, ls="none", lw=2.0, **{"ms": 5.5, **look})  # type: ignore[arg-type]


def write(known: Sequence[Headline], titles: Mapping[str, str], folder: Path) -> list[Path]:
    """Write `headlines.png` and `headlines.pdf`; nothing where no headline has been tested."""
    if not known:
        return []
    with style():
        figure = draw(known, titles)
        return [save(figure, folder / f"headlines.{ending}") for ending in ("png", "pdf")]
