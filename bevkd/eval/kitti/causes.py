"""What is odd about result files in KITTI's conventions: boxes in another convention."""

from __future__ import annotations

import numpy as np

from bevkd.data.kitti.objects import NO_ANGLE, OTHER, TYPES, Objects, placed
from bevkd.eval.causes import LEAST, QUARTER, nearest_pairs, of_headings, of_heights, of_sizes

_SIZES = ("height", "width", "length")


def oddities(labels: Objects, results: Objects) -> list[str]:
    """Sentences on what is likely wrong; none where nothing is."""
    labels = labels.select(placed(labels) & (labels.kind != TYPES.index("dontcare")))
    results = results.select(placed(results) & (results.kind != OTHER))
    flat = int((results.column("y2") <= results.column("y1")).sum())
    flatness = f"{flat} of {len(results)} detections have an image box without height: below 25 pixels none is scored"
    score, truth = results.column("score"), _place(labels)
    i, j = nearest_pairs(_place(results), score, truth)
    # Axes of the LiDAR look ahead, to the left and up, those of the camera to the right, down and ahead.
    ahead = np.stack([-results.column("y"), results.column("x")], axis=1)
    turned, _ = nearest_pairs((_place(results)[0], ahead), score, truth)
    if len(turned) >= LEAST and len(turned) > 4 * len(i):
        near = f"{len(turned)} instead of {len(i)} detections lie beside an annotation"
        return [f"x, y, z look to be those of the LiDAR frame: in the camera frame {near}"]
    found, true = results.select(i), labels.select(j)
    angle, alpha = found.column("rotation_y"), found.column("alpha")
    ray = np.arctan2(found.column("x"), found.column("z"))
    others = {
        "counted the other way round": -angle,
        "counted as in the LiDAR frame (-rotation_y - 90 degrees)": -angle - QUARTER,
        "to hold alpha": angle + ray,
        "to be in degrees": np.radians(angle),
    }
    seen = alpha != NO_ANGLE
    middle = "y looks to be that of the middle of the boxes, not of their bottom"
    sizes = [np.stack([objects.column(name) for name in _SIZES], axis=1) for objects in (found, true)]
    return [
        *[flatness] * bool(flat),
        *of_sizes(sizes[0], sizes[1], _SIZES),
        *of_headings(angle, true.column("rotation_y"), others, "rotation_y"),
        *of_headings(alpha[seen], true.column("alpha")[seen], {"to hold rotation_y": (alpha - ray)[seen]}, "alpha"),
        *of_heights(found.column("y"), true.column("y"), true.column("height") / 2, middle),
    ]


def _place(objects: Objects) -> tuple[np.ndarray, np.ndarray]:
    place = np.stack([objects.column("x"), objects.column("z")], axis=1)
    return objects.frame * (OTHER + 1) + objects.kind, place
