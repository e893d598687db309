"""How figures look: one colour-blind safe palette, readable sizes, reproducible files. No global state is touched."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from matplotlib import rc_context
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.container import Container
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from numpy.typing import NDArray

from bevkd.io import write_bytes

# Okabe and Ito's palette: distinguishable with every common colour vision deficiency and in print.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
Outside: TypeAlias = Literal["outside lower center", "outside upper center"]
TRUTH = "#D62728"  # ground truth, red as in the papers
_RC: Any = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.labelsize": 10,
    "legend.fontsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "lines.linewidth": 1.8,
    "pdf.fonttype": 42,
}


def style() -> Any:
    """Context in which a figure is made and saved."""
    return rc_context(_RC)


def forward_up(xy: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    """Places (..., 2+) of the ego frame (x forward, y left) on a page where forward is up: (..., 2)."""
    return np.stack([-xy[..., 1], xy[..., 0]], axis=-1)


def canvas(width: float, height: float) -> Figure:
    """A figure (inches) that draws without a display."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def axes_grid(figure: Figure, rows: int, columns: int, **options: Any) -> list[list[Axes]]:
    """Axes as a list of rows."""
    return [list(row) for row in figure.subplots(rows, columns, squeeze=False, **options)]


def legend_outside(
    figure: Figure, handles: Iterable[Artist | Container], place: Outside = "outside lower center", **look: Any
) -> Legend:
    """A legend above or below the panels, in as few rows as the figure is wide enough for; further rows make it higher.

    Args:
        figure: of `canvas`, with all its panels.
        handles: what is named, with labels.
        place: above or below.
        look: other keywords of a legend.
    """
    handles = list(handles)

    def of(columns: int) -> Legend:
        return figure.legend(handles=handles, loc=place, ncols=columns, frameon=False, **look)

    legend = of(max(1, len(handles)))
    one_row = legend.get_window_extent()
    for columns in range(len(handles) - 1, 0, -1):
        if legend.get_window_extent().width <= figure.bbox.width:
            break
        legend.remove()
        legend = of(columns)
    more = (legend.get_window_extent().height - one_row.height) / figure.dpi
    figure.set_figheight(figure.get_figheight() + more)
    return legend


def save(figure: Figure, path: Path, dpi: int = 150) -> Path:
    """Write a figure atomically; the bytes do not depend on the time of day."""
    buffer = io.BytesIO()
    ending = path.suffix.removeprefix(".")
    undated = {"pdf": {"CreationDate": None}, "png": {"Software": None}}.get(ending)
    figure.savefig(buffer, format=ending, dpi=dpi, metadata=undated)
    write_bytes(path, buffer.getvalue())
    return path
