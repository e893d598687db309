"""What diagrams are drawn with: text, and lines that end in a head."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch

INK, FAINT = "0.15", "0.45"
FONT = 9.5


def write(axes: Axes, x: float, y: float, text: str, **options: object) -> None:
    """Text at a place, by default in ink and in the middle of the line."""
    axes.text(x, y, text, **({"size": FONT, "va": "center", "color": INK} | options))  # type: ignore[arg-type]


def arrow(axes: Axes, points: Sequence[tuple[float, float]], colour: str) -> None:
    """A line through points with a head at its end."""
    if len(points) > 2:
        axes.plot(*zip(*points[:-1], strict=True), color=colour, lw=1.3, solid_capstyle="butt", zorder=1)
    head = FancyArrowPatch(
        points[-2],
        points[-1],
        arrowstyle="-|>",
        mutation_scale=11,
        color=colour,
        lw=1.3,
        shrinkA=0,
        shrinkB=0,
        zorder=1,
    )
    axes.add_patch(head)
