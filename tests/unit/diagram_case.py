"""What every diagram has to keep: all of it can be read."""

from __future__ import annotations

from itertools import combinations
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch


def assert_legible(figure: Figure, axes: Axes) -> tuple[dict[Any, Any], list[Any]]:
    """Texts lie inside of the figure, in a box altogether or not at all, are large enough and on no other; boxes are on
    no other.

    Returns:
        Extents (pixels) of the texts, by these, and of the boxes.
    """
    texts = {text: text.get_window_extent() for text in axes.texts if text.get_text()}
    boxes = [patch.get_window_extent() for patch in axes.patches if isinstance(patch, FancyBboxPatch)]
    for text, extent in texts.items():
        assert figure.bbox.contains(extent.x0, extent.y0), text
        assert figure.bbox.contains(extent.x1, extent.y1), text
        for box in boxes:
            inside = box.x0 <= extent.x0 and extent.x1 <= box.x1 and box.y0 <= extent.y0 and extent.y1 <= box.y1
            assert inside or not box.overlaps(extent), text
        assert text.get_fontsize() * 100 / 72 >= 13, "pixels of a page of 1100"
    for (one, first), (other, second) in combinations(texts.items(), 2):
        assert not first.overlaps(second), (one, other)
    for one, other in combinations(boxes, 2):
        assert not one.overlaps(other)
    return texts, boxes
