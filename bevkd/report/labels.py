"""Words at boxes in a picture: as many as fit without covering each other, the best detections first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.transforms import Bbox

from bevkd.classes import LABELS

_SHORT = {"construction_vehicle": "constr. vehicle", "traffic_cone": "cone"}
# Share of a text that lies before its anchor, by alignment.
_BEFORE = {"left": 0.0, "center": 0.5, "right": 1.0, "bottom": 0.0, "top": 1.0}
# Above the anchor, below it, beside it: shift in points, and how the text is aligned there.
_PLACES: tuple[tuple[tuple[float, float], str, str], ...] = (
    ((0, 2), "center", "bottom"),
    ((0, -2), "center", "top"),
    ((3, 0), "left", "center"),
    ((-3, 0), "right", "center"),
)


def class_name(label: int) -> str:
    """A class as pictures call it."""
    name = LABELS[label] if 0 <= label < len(LABELS) else str(label)
    return _SHORT.get(name, name.replace("_", " "))


def words(label: int, score: float) -> str:
    """`car .62`."""
    return f"{class_name(label)} {score:.2f}".replace(" 0.", " .")


class LabelPlacer:
    """Places texts on a figure whose layout is settled."""

    def __init__(self, figure: Figure, fontsize: float) -> None:
        self._renderer: Any = figure.canvas.get_renderer()  # type: ignore[attr-defined]
        self._point, self._fontsize = figure.dpi / 72, fontsize
        self._sizes: dict[str, tuple[float, float]] = {}

    def place(
        self,
        axes: Axes,
        anchors: Sequence[tuple[float, float]],
        texts: Sequence[str],
        colour: str,
        taken: Iterable[Bbox] = (),
    ) -> list[Bbox]:
        """Write each text near its anchor (data coordinates), in order, where there is room.

        Returns:
            What of the figure is taken by texts now, `taken` before included.
        """
        frame, taken = axes.get_window_extent(self._renderer), list(taken)
        for anchor, text in zip(anchors, texts, strict=True):
            at = axes.transData.transform(anchor)
            width, height = self._size(axes, text)
            for shift, across, along in _PLACES:
                x = at[0] + shift[0] * self._point - width * _BEFORE[across]
                y = at[1] + shift[1] * self._point - height * _BEFORE[along]
                box = Bbox.from_bounds(x, y, width, height)
                if _within(box, frame) and not any(box.overlaps(other) for other in taken):
                    taken.append(box)
                    self._write(axes, text, anchor, shift, across, along, colour)
                    break
        return taken

    def _size(self, axes: Axes, text: str) -> tuple[float, float]:
        """Width and height of a text in pixels."""
        if text not in self._sizes:
            probe = axes.text(0, 0, text, fontsize=self._fontsize)
            box = probe.get_window_extent(self._renderer)
            probe.remove()
            self._sizes[text] = (box.width, box.height)
        return self._sizes[text]

    def _write(
        self,
        axes: Axes,
        text: str,
        anchor: tuple[float, float],
        shift: tuple[float, float],
        across: str,
        along: str,
        colour: str,
    ) -> None:
        axes.annotate(
            text,
            anchor,
            xytext=shift,
            textcoords="offset points",
            ha=across,
            va=along,
            fontsize=self._fontsize,
            color=colour,
            path_effects=[withStroke(linewidth=1.6, foreground="white", alpha=0.85)],
        ).set_in_layout(False)


def _within(box: Bbox, frame: Bbox) -> bool:
    return bool(box.x0 >= frame.x0 and box.x1 <= frame.x1 and box.y0 >= frame.y0 and box.y1 <= frame.y1)
