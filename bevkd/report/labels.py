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
        self._fontsize = fontsize

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
            for shift, across, along in _PLACES:
                note = axes.annotate(
                    text,
                    anchor,
                    xytext=shift,
                    textcoords="offset points",
                    ha=across,
                    va=along,
                    fontsize=self._fontsize,
                    color=colour,
                    path_effects=[withStroke(linewidth=1.6, foreground="white", alpha=0.85)],
                    annotation_clip=True,
                )
                note.set_in_layout(False)
                box = note.get_window_extent(self._renderer)
                if _within(box, frame) and not any(box.overlaps(other) for other in taken):
                    taken.append(box)
                    break
                note.remove()
        return taken


def _within(box: Bbox, frame: Bbox) -> bool:
    return bool(box.x0 >= frame.x0 and box.x1 <= frame.x1 and box.y0 >= frame.y0 and box.y1 <= frame.y1)
