"""Detections, annotations and each other by the distance of their centres, whatever data set they are of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bevkd.classes import LABELS
from bevkd.eval.nuscenes.boxes import Boxes, Floats, Ints, make_boxes
from bevkd.eval.nuscenes.matching import find_candidates, inverse, match, score_order

MATCHED = 2.0  # metres between the centres of a detection and its annotation


@dataclass(frozen=True, slots=True)
class Centres:
    """N boxes of which frame, class and centre are looked at.

    Attributes:
        frame: (N,) over all frames.
        label: (N,) class indices (`bevkd.classes.LABELS`).
        box: (N, 7+) x, y, z, l, w, h, yaw in the ego frame of their frames (m).
        score: (N,); annotations have any.
    """

    frame: Ints
    label: Ints
    box: Floats
    score: Floats

    def __len__(self) -> int:
        return len(self.frame)

    def take(self, index: Any) -> Centres:
        """Those at `index` (positions or a mask)."""
        return Centres(self.frame[index], self.label[index], self.box[index], self.score[index])

    def columns(self) -> Boxes:
        """As the matching of the benchmark knows them: frame and class are one group, for its own numbering knows the
        classes of nuScenes only.
        """
        upright = np.broadcast_to([1.0, 0, 0, 0], (len(self), 4))
        still, first = np.zeros((len(self), 2)), np.zeros(len(self))
        group = self.frame * len(LABELS) + self.label
        return make_boxes(group, self.box[:, :3], self.box[:, 3:6], upright, still, first, score=self.score)


def match_best(found: Centres, annotated: Centres) -> tuple[Ints, Ints]:
    """The best-scored detections, as many as there are annotations, and what each of them has found.

    That needs no threshold: scores of different detectors mean different things. By falling score, each detection
    takes the nearest free annotation of its class and frame within `MATCHED` metres.

    Returns:
        Indices of the best detections by falling score, and for each the index of its annotation, -1 where it is false.
        Where there are fewer detections than annotations, all of them are among the best.
    """
    gt, pred = annotated.columns(), found.columns()
    order = score_order(pred.score)
    taken = match(find_candidates(gt, pred, MATCHED), MATCHED, inverse(order), len(gt))
    best = order[: len(gt)]
    return best, taken[best]


def pair_nearest(some: Centres, others: Centres, radius: float = MATCHED) -> Ints:
    """For each of some boxes the index of its partner among others, -1 for none.

    Partners are of one frame and class, nearer than `radius` (m), and nobody has two: the nearest pair comes first,
    then the nearest of what is left. It is the same seen from either side.
    """
    candidates = find_candidates(others.columns(), some.columns(), radius)
    first = np.repeat(np.arange(len(some)), np.diff(candidates.start))
    # Equal distances: those of the earlier frame, then places that do not depend on who is asked.
    place = [box[at, axis] for at, box in ((first, some.box), (candidates.annotation, others.box)) for axis in (0, 1)]
    x, y = place[0] + place[2], place[1] + place[3]
    partner, free = np.full(len(some), -1), np.ones(len(others), dtype=bool)
    for pair in np.lexsort((y, x, some.frame[first], candidates.distance)):
        mine, other = first[pair], candidates.annotation[pair]
        if partner[mine] < 0 and free[other]:
            partner[mine], free[other] = other, False
    return partner
