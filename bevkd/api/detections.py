"""`Detections`: what a detector finds in one frame, as plain arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bevkd.api.numbers import numbers
from bevkd.classes import LABEL_INDEX, LABELS
from bevkd.errors import ConfigError, nearest

BOX_COLUMNS = 9
_KEYS = ("boxes", "scores", "names", "labels", "num_points", "attributes", "difficulty")  # the last three: of a truth


@dataclass(frozen=True)
class Detections:
    """Boxes of one frame, those with the highest scores first where a detector made them.

    Attributes:
        boxes: (M, 9) float32 x, y, z (centre), length, width, height (m), yaw (rad, counter-clockwise from +x), and
            velocity vx, vy (m/s), in the ego frame: x forward, y left, z up.
        scores: (M,) float32.
        labels: (M,) int64, places of the class names in `bevkd.classes.LABELS`.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.boxes)

    @property
    def names(self) -> tuple[str, ...]:
        """(M,) names of the classes."""
        return tuple(LABELS[label] for label in self.labels)

    def above(self, score: float) -> Detections:
        """Those with a higher score."""
        keep = self.scores > score
        return Detections(self.boxes[keep], self.scores[keep], self.labels[keep])

    @classmethod
    def of(cls, plain: Detections | Mapping[str, Any], where: str) -> Detections:
        """Detections from a mapping of arrays: `boxes` (M, 7) or (M, 9), `labels` or `names`, `scores` (left out: 1).

        Boxes of seven columns have no velocity (NaN).

        Raises:
            ConfigError: an array is missing, has another length, or holds what cannot be; the message begins `where`.
        """
        if isinstance(plain, Detections):
            return plain
        if not isinstance(plain, Mapping) or "boxes" not in plain:
            raise ConfigError(f"{where}: wants Detections, or a mapping with boxes, scores, and labels or names")
        for key in plain:
            if key not in _KEYS:
                raise ConfigError(f"{where}: unknown key {key!r}{nearest(key, _KEYS)}; known: {', '.join(_KEYS)}")
        boxes = _boxes(plain["boxes"], where)
        if "names" in plain:
            labels = labels_of(plain["names"], where)
        elif "labels" in plain:
            labels = numbers(where, plain["labels"], np.int64, f"{len(boxes)} labels, one integer for each box")
        else:
            raise ConfigError(f"{where}: boxes want labels or names")
        if labels.shape != (len(boxes),):
            what = "names" if "names" in plain else "labels"
            raise ConfigError(f"{where}: wants {len(boxes)} {what}, one for each box, got {labels.size}")
        if labels.size and not 0 <= labels.min() <= labels.max() < len(LABELS):
            raise ConfigError(f"{where}: labels are places in bevkd.classes.LABELS, 0 to {len(LABELS) - 1}")
        scores = numbers(
            where, plain.get("scores", np.ones(len(boxes))), np.float32, f"{len(boxes)} scores, a number for each box"
        )
        if scores.shape != (len(boxes),) or not np.isfinite(scores).all():
            raise ConfigError(f"{where}: wants {len(boxes)} finite scores, got an array of shape {scores.shape}")
        return cls(boxes, scores, labels)


def _boxes(plain: Any, where: str) -> NDArray[np.float32]:
    boxes = numbers(where, plain, np.float32, "boxes of shape (M, 9) or (M, 7)")
    if boxes.size == 0:
        return np.zeros((0, BOX_COLUMNS), dtype=np.float32)
    if boxes.ndim != 2 or boxes.shape[1] not in (7, BOX_COLUMNS):
        raise ConfigError(f"{where}: boxes want shape (M, 9) or (M, 7), got {boxes.shape}")
    if not np.isfinite(boxes[:, :7]).all() or (boxes[:, 3:6] <= 0).any():
        raise ConfigError(f"{where}: boxes are finite, and their lengths, widths and heights positive")
    if boxes.shape[1] == BOX_COLUMNS:
        return boxes
    return np.concatenate([boxes, np.full((len(boxes), 2), np.nan, dtype=np.float32)], axis=1)


def labels_of(names: Sequence[str], where: str) -> NDArray[np.int64]:
    """Labels (M,) of class names.

    Raises:
        ConfigError: an unknown name; the message has the nearest one.
    """
    if isinstance(names, str) or not hasattr(names, "__iter__"):
        raise ConfigError(f"{where}: wants a list of names, not {names!r}")
    for name in names:
        if not isinstance(name, str) or name not in LABEL_INDEX:
            raise ConfigError(f"{where}: unknown class {name!r}{nearest(name, LABELS)}")
    return np.array([LABEL_INDEX[name] for name in names], dtype=np.int64)
