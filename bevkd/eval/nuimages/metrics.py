"""Average precision of 2D boxes: detections are matched by falling score to the free object of most overlap.

nuImages has no benchmark of its own; this is the area under the precision-recall curve, with precision made monotonic,
at one threshold of IoU.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Found = tuple[Array, Array]  # boxes (N, 4) and scores (N,) of one image
IOU = 0.5


def iou_2d(a: Array, b: Array) -> Array:
    """IoU (N, M) of boxes (N, 4) and (M, 4), xmin, ymin, xmax, ymax."""
    low, high = np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = np.prod(np.maximum(high - low, 0.0), axis=-1)
    area_a, area_b = (np.prod(x[:, 2:] - x[:, :2], axis=-1) for x in (a, b))
    union = area_a[:, None] + area_b[None] - shared
    return np.asarray(np.where(union > 0, shared / np.where(union > 0, union, 1.0), 0.0))


def average_precision(found: Sequence[Found], truth: Sequence[Array], threshold: float = IOU) -> float | None:
    """AP of one class over some images; None where no image has an object of it.

    Args:
        found: of each image boxes and scores.
        truth: of each image the boxes (M, 4) that are there.
        threshold: least IoU of a match.
    """
    total = sum(map(len, truth))
    if total == 0:
        return None
    scores, hits = [], []
    for (boxes, score), there in zip(found, truth, strict=True):
        order = np.argsort(-score, kind="stable")
        scores.append(score[order])
        hits.append(_matches(iou_2d(boxes[order], there), threshold))
    score, hit = np.concatenate(scores), np.concatenate(hits)
    right = np.cumsum(hit[np.argsort(-score, kind="stable")])
    precision = right / np.arange(1, len(right) + 1)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    recall = np.concatenate([[0.0], right / total])
    return float(np.sum(np.diff(recall) * best))


def _matches(overlap: Array, threshold: float) -> NDArray[np.bool_]:
    """Which detections (N,), best first, find an object that none before has found."""
    hit = np.zeros(len(overlap), dtype=bool)
    free = np.ones(overlap.shape[1], dtype=bool)
    for i in range(len(overlap)):
        mine = np.where(free, overlap[i], -1.0)
        if mine.size and mine.max() >= threshold:
            free[mine.argmax()] = False
            hit[i] = True
    return hit


def evaluate(
    found: Mapping[str, tuple[Array, NDArray[np.int64], Array]],
    truth: Mapping[str, tuple[Array, NDArray[np.int64]]],
    classes: Mapping[str, int],
    threshold: float = IOU,
) -> dict[str, Any]:
    """Metrics of some images.

    Args:
        found: image -> boxes, labels and scores.
        truth: image -> boxes and labels; every image that counts.
        classes: name -> label, of the classes that count.
        threshold: least IoU of a match.

    Returns:
        `mAP50`, the mean over the classes that occur; `AP50` by class, None for those that do not; numbers of `objects`
        by class.
    """
    nothing = (np.zeros((0, 4)), np.zeros(0, dtype=np.int64), np.zeros(0))
    ap: dict[str, float | None] = {}
    count: dict[str, int] = {}
    for name, label in classes.items():
        seen, there = [], []
        for image, (boxes, labels) in truth.items():
            mine, own, scores = found.get(image, nothing)
            seen.append((mine[own == label], scores[own == label]))
            there.append(boxes[labels == label])
        ap[name] = average_precision(seen, there, threshold)
        count[name] = sum(map(len, there))
    known = [value for value in ap.values() if value is not None]
    return {"mAP50": float(np.mean(known)) if known else None, "AP50": ap, "objects": count}
