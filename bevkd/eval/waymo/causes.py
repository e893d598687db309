"""What is odd about arrays of boxes for Waymo: frames without a counterpart, boxes in another convention."""

from __future__ import annotations

import numpy as np

from bevkd.eval.causes import QUARTER, nearest_pairs, of_headings, of_heights, of_sizes
from bevkd.eval.waymo.sets import TYPES, Boxes, Sets

_REACH_M = 300.0  # no sensor of Waymo's vehicles sees as far
_ENOUGH = 50_000  # annotations: of more, every k-th frame is looked at


def oddities(sets: Sets) -> list[str]:
    """Sentences on what does not count or is likely wrong; none where nothing is."""
    found, true = sets.predictions, sets.annotations
    out = _frames(np.unique(found.frame), np.unique(true.frame))
    for boxes, what in ((found, "predictions"), (true, "annotations")):
        if unknown := int((boxes.type == 0).sum()):
            out.append(f"{unknown} of {len(boxes)} {what} are of type 0 (unknown) and do not count")
    return out + conventions(sets)


def _frames(found: np.ndarray, true: np.ndarray) -> list[str]:
    both = len(np.intersect1d(found, true))
    if not both and len(found) and len(true):
        return [f"no frame of pred_frame ({found[0]}, ...) is in gt_frame ({true[0]}, ...): are they numbered alike?"]
    out = []
    if extra := len(found) - both:
        out.append(f"{extra} of {len(found)} frames with predictions have no annotation: all in them is false")
    if missing := len(true) - both:
        out.append(f"{missing} of {len(true)} frames with annotations have no prediction: all in them is missed")
    return out


def conventions(sets: Sets) -> list[str]:
    """Sentences on boxes that look to be in another convention; none where they do not."""
    found, true = sets.predictions, sets.annotations
    if (every := len(true) // _ENOUGH) > 1:
        found, true = (boxes.select(boxes.frame % every == 0) for boxes in (found, true))
    frames = np.unique(np.concatenate([found.frame, true.frame]))

    def place(boxes: Boxes) -> tuple[np.ndarray, np.ndarray]:
        return np.searchsorted(frames, boxes.frame) * (len(TYPES) + 1) + boxes.type, boxes.box[:, :2]

    i, j = nearest_pairs(place(found), found.score.astype(np.float64), place(true))
    a, b = found.box[i], true.box[j]
    others = {
        "counted clockwise": -a[:, 6],
        "to be -heading - 90 degrees": -a[:, 6] - QUARTER,
        "to be in degrees": np.radians(a[:, 6]),
    }
    middle = "z looks to be that of the bottom of the boxes, not of their middle"
    reach = np.hypot(found.box[:, 0], found.box[:, 1])
    far = f"none of the {len(found)} predictions lies within {_REACH_M:g} m of its vehicle: boxes must be in its frame"
    return [
        *[far] * bool(len(found) and reach.min() > _REACH_M),
        *of_sizes(a[:, 3:6], b[:, 3:6], ("length", "width", "height")),
        *of_headings(a[:, 6], b[:, 6], others, "heading"),
        *of_heights(a[:, 2], b[:, 2], b[:, 5] / 2, middle),
    ]
