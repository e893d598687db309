"""Likely causes of a bad score, told by evidence: with one convention of the boxes changed they fit better by far.

Files that mix up conventions (width and length exchanged, headings off by a quarter turn) are scored as they are. What
is looked at here are detections beside an annotation of their class, whatever their size and heading; a weak detector,
whose headings are random, fits no better with another convention and gives no cause.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import permutations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from bevkd.geometry import wrap_angle

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

REACH = 2.0  # metres between the centres of a detection and its annotation
LEAST = 5  # pairs
QUARTER = np.pi / 2


def nearest_pairs(found: tuple[Ints, Floats], score: Floats, true: tuple[Ints, Floats]) -> tuple[Ints, Ints]:
    """Detections and the annotations that they lie beside, each at most once: (P,) and (P,).

    Args:
        found: group (N,), such as a number per frame and class, and place on the ground (N, 2), of the detections.
        score: (N,) of the detections; an annotation takes the best of those that it is nearest to.
        true: the same of the annotations.
    """
    nothing = np.zeros(0, dtype=np.int64)
    if not len(found[0]) or not len(true[0]):
        return nothing, nothing
    # Groups are apart in a third dimension, by more than the reach.
    points = [np.column_stack([place, 4 * REACH * group]) for group, place in (found, true)]
    _, owner = cKDTree(points[1]).query(points[0], distance_upper_bound=REACH)
    near = np.flatnonzero(owner < len(true[0]))
    near = near[np.argsort(-score[near], kind="stable")]
    annotation, first = np.unique(owner[near], return_index=True)
    return near[first], annotation


def of_sizes(found: Floats, true: Floats, axes: Sequence[str]) -> list[str]:
    """Whether sizes (P, 3) stand in another order than the `axes` of the format."""
    if len(found) < LEAST:
        return []
    usual = tuple(range(3))
    errors = {order: float(_scale_errors(found[:, order], true).mean()) for order in permutations(usual)}
    before, best = errors[usual], min(errors, key=lambda order: errors[order])
    if before - errors[best] < 0.15 or errors[best] > 0.5 * before:
        return []
    moved = [axes[i] for i in usual if best[i] != i]
    if len(moved) == 2:
        what = f"{moved[0]} and {moved[1]} look exchanged (the order is {', '.join(axes)})"
    else:
        held = ", ".join(axes[best.index(column)] for column in usual)
        what = f"sizes look to be in the order {held} instead of {', '.join(axes)}"
    return [f"{what}: put right, the scale error of {_evidence(len(found), before, errors[best])}"]


def _scale_errors(found: Floats, true: Floats) -> Floats:
    """1 - IoU (P,) of boxes with the same centre and heading."""
    inter = np.minimum(found, true).prod(axis=1)
    union = found.prod(axis=1) + true.prod(axis=1) - inter
    return 1 - np.divide(inter, union, out=np.zeros(len(found)), where=union > 0)


def of_headings(
    found: Floats, true: Floats, others: Mapping[str, Floats] | None = None, name: str = "yaw"
) -> list[str]:
    """Whether angles (P,) look turned, or in another convention of `others`: what is wrong -> angles put right (P,)."""
    turned = {
        "off by 90 degrees": found - QUARTER,
        "off by -90 degrees": found + QUARTER,
        "off by 180 degrees": found + np.pi,
    }
    before = _turn(found, true)
    after = {what: _turn(angles, true) for what, angles in (turned | dict(others or {})).items()}
    best = min(after, key=lambda what: after[what])
    # So small an error of few pairs, or a fall by so much of many, does not come about with random angles.
    few = len(found) < 20
    if len(found) < LEAST or before < (1.0 if few else 0.2) or after[best] > (0.2 if few else 0.4 * before):
        return []
    return [f"{name} looks {best}: put right, its error of {_evidence(len(found), before, after[best], ' rad')}"]


def _turn(found: Floats, true: Floats) -> float:
    return float(np.abs(wrap_angle(found - true)).mean()) if len(found) else 0.0


def of_heights(found: Floats, true: Floats, half: Floats, what: str) -> list[str]:
    """Whether places (P,) along the vertical are off by half the height of a box, `half` with its sign (P,)."""
    before, after = (float(np.abs(values - true).mean()) if len(true) else 0.0 for values in (found, found + half))
    if len(found) < LEAST or before < 0.3 or after > 0.4 * before:
        return []
    return [f"{what}: put right, the vertical error of {_evidence(len(found), before, after, ' m')}"]


def _evidence(pairs: int, before: float, after: float, unit: str = "") -> str:
    return f"{pairs} detections beside an annotation falls from {before:.2f} to {after:.2f}{unit}"
