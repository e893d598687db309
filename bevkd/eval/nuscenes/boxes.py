"""Boxes of many frames as columns: the one form in which annotations and detections meet."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bevkd.eval.nuscenes.constants import NO_ATTRIBUTE

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Boxes:
    """N boxes in the global frame, in the order of their file; units are metres and m/s.

    Attributes:
        frame: (N,) index into the tokens of the ground truth.
        translation: (N, 3) box centres.
        size: (N, 3) width, length, height, in nuScenes' own order.
        rotation: (N, 4) quaternions (w, x, y, z).
        velocity: (N, 2); NaN where unknown.
        label: (N,) index into `bevkd.classes.CLASSES`.
        attribute: (N,) index into `ATTRIBUTES`, -1 where there is none.
        score: (N,) confidence; NaN for annotations.
        num_points: (N,) LiDAR and radar points inside; -1 where not counted.
    """

    frame: Ints
    translation: Floats
    size: Floats
    rotation: Floats
    velocity: Floats
    label: Ints
    attribute: Ints
    score: Floats
    num_points: Ints

    def __len__(self) -> int:
        return len(self.frame)

    def take(self, index: NDArray[Any]) -> Boxes:
        """The boxes at `index` (positions or a mask)."""
        return Boxes(**{f.name: getattr(self, f.name)[index] for f in fields(self)})


def make_boxes(
    frame: Any,
    translation: Any,
    size: Any,
    rotation: Any,
    velocity: Any,
    label: Any,
    *,
    score: Any = None,
    attribute: Any = None,
    num_points: Any = None,
) -> Boxes:
    """`Boxes` from array-likes, with the types that the evaluation needs; left-out columns mean "unknown"."""
    n = len(frame)

    def floats(value: Any, width: int) -> Floats:
        return np.asarray(value, dtype=np.float64).reshape(n, width)

    def ints(value: Any, default: int) -> Ints:
        return np.full(n, default) if value is None else np.asarray(value, dtype=np.int64).reshape(n)

    return Boxes(
        frame=ints(frame, 0),
        translation=floats(translation, 3),
        size=floats(size, 3),
        rotation=floats(rotation, 4),
        velocity=floats(velocity, 2),
        label=ints(label, 0),
        attribute=ints(attribute, NO_ATTRIBUTE),
        score=np.full(n, np.nan) if score is None else floats(score, 1)[:, 0],
        num_points=ints(num_points, -1),
    )
