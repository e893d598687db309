"""Which boxes have their centre in a bicycle rack.

Two-wheelers in a rack do not count, and a centre right on a face of the rack lies inside. So that rounding puts it on
the same side as the benchmark does, the products are formed in its order: a rotation is the product of two quaternion
matrices, and every inner product is one (`np.matmul` rounds like it, a sum of products does not).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bevkd.eval.groups import Groups
from bevkd.eval.nuscenes.boxes import Boxes, Floats

UNIT_TOLERANCE = 1e-14  # quaternions this near to unit length are not normalised again
# The corner from which the edges start, and the three corners they lead to (backward, right, down).
_CORNERS = np.array([[1.0, 1.0, 1.0], [-1.0, 1.0, 1.0], [1.0, -1.0, 1.0], [1.0, 1.0, -1.0]])


def in_racks(boxes: Boxes, racks: Boxes, n_frames: int) -> NDArray[np.bool_]:
    """(N,) whether the centre of each box lies in a rack of its frame, faces included."""
    inside = np.zeros(len(boxes), dtype=bool)
    box, rack = Groups(racks.frame, n_frames).pairs(boxes.frame)
    if not len(box):
        return inside
    half = racks.size[:, [1, 0, 2]] / 2
    corners = np.matmul(_rotations(racks.rotation), np.swapaxes(half[:, None] * _CORNERS, 1, 2))  # (R, 3, 4)
    corners += racks.translation[:, :, None]
    offset = boxes.translation[box] - corners[rack, :, 0]
    within = np.ones(len(box), dtype=bool)
    for axis in (1, 2, 3):
        edge = np.ascontiguousarray(corners[:, :, axis] - corners[:, :, 0])
        along = _inner(edge[rack], offset)
        within &= (along >= 0) & (along <= _inner(edge, edge)[rack])
    inside[box[within]] = True
    return inside


def _inner(a: Floats, b: Floats) -> Floats:
    """(N,) inner products of the rows."""
    return np.matmul(a[:, None, :], b[:, :, None])[:, 0, 0]


def _rotations(quaternion: Floats) -> Floats:
    """(N, 3, 3) rotations q v q* as the product of the matrices of "q times" and "times q*"; zero for a null q."""
    square = _inner(quaternion, quaternion)
    length = np.where((np.abs(1 - square) < UNIT_TOLERANCE) | (square == 0), 1.0, np.sqrt(square))
    w, x, y, z = np.moveaxis(quaternion / length[:, None], 1, 0)
    left = [[w, -x, -y, -z], [x, w, -z, y], [y, z, w, -x], [z, -y, x, w]]
    right = [[w, -x, -y, -z], [x, w, z, -y], [y, -z, w, x], [z, y, -x, w]]
    left_matrix, right_matrix = (np.ascontiguousarray(np.moveaxis(np.array(m), 2, 0)) for m in (left, right))
    return np.matmul(left_matrix, np.swapaxes(right_matrix, 1, 2))[:, 1:, 1:]
