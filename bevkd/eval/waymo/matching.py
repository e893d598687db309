"""Matching of greatest total weight between predictions and annotations, under many score cut-offs.

The benchmark solves one assignment problem per frame, breakdown and cut-off. Pairs that may match are few, so the graph
of them falls apart into small pieces: where all predictions of a piece want one annotation, the one of greatest
weight gets it; only the others need the assignment problem, and only as often as a cut-off changes their members.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from bevkd.eval.groups import first_in_lists
from bevkd.eval.waymo.sets import Ints


@dataclass(frozen=True)
class Pairs:
    """Pairs that may match.

    Attributes:
        prediction: (K,).
        annotation: (K,).
        weight: (K,) int64, positive: an assignment of greatest total weight is looked for.
    """

    prediction: Ints
    annotation: Ints
    weight: Ints

    def select(self, keep: NDArray) -> Pairs:
        """The pairs chosen by a mask or by indices."""
        return Pairs(self.prediction[keep], self.annotation[keep], self.weight[keep])


def match(pairs: Pairs, active: NDArray[np.bool_], annotations: int) -> Ints:
    """Indices (T, annotations) of the pair that each annotation is matched by, -1 where by none.

    Args:
        pairs: who may match whom.
        active: (T, predictions) which predictions take part.
        annotations: number of annotations.
    """
    thresholds, predictions = active.shape
    out = np.full((thresholds, annotations), -1)
    if len(pairs.prediction) == 0:
        return out
    size = predictions + annotations
    ends = (pairs.prediction, predictions + pairs.annotation)
    _, piece = connected_components(coo_array((np.ones(len(ends[0]), np.int8), ends), shape=(size, size)), False)
    lonely = np.bincount(piece[predictions:], minlength=size)[piece[ends[0]]] == 1
    _stars(pairs, np.flatnonzero(lonely), active, out)
    rest = np.flatnonzero(~lonely)
    rest = rest[np.argsort(piece[ends[0][rest]], kind="stable")]
    for members in np.split(rest, np.flatnonzero(np.diff(piece[ends[0][rest]])) + 1) if len(rest) else []:
        _piece(pairs, members, active, out)
    return out


def _stars(pairs: Pairs, members: Ints, active: NDArray[np.bool_], out: Ints) -> None:
    """Every annotation takes the heaviest of its own predictions."""
    order = np.lexsort((pairs.prediction[members], -pairs.weight[members], pairs.annotation[members]))
    members = members[order]
    starts = np.flatnonzero(np.diff(pairs.annotation[members], prepend=-1))
    t, _, place = first_in_lists(active[:, pairs.prediction[members]], starts)
    out[t, pairs.annotation[members[place]]] = members[place]


def _piece(pairs: Pairs, members: Ints, active: NDArray[np.bool_], out: Ints) -> None:
    """The assignment problem of one piece, once for each set of active predictions."""
    rows, row = np.unique(pairs.prediction[members], return_inverse=True)
    columns, column = np.unique(pairs.annotation[members], return_inverse=True)
    weight = np.zeros((len(rows), len(columns)), dtype=np.int64)
    weight[row, column] = pairs.weight[members]
    index = np.full(weight.shape, -1)
    index[row, column] = members
    sets, which = np.unique(active[:, rows], axis=0, return_inverse=True)
    for number, chosen in enumerate(sets):
        r, c = linear_sum_assignment(weight * chosen[:, None], maximize=True)
        found = index[r, c]
        good = (found >= 0) & chosen[r]
        when = np.flatnonzero(which.reshape(-1) == number)
        out[np.ix_(when, columns[c[good]])] = found[good]
