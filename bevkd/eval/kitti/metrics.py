"""Average precision over 11 and 40 recall positions, for three difficulties, as KITTI's evaluator computes it.

Its rules in short. Annotations of a neighbouring class (van, person sitting) and those beyond the difficulty's limits
are ignored: a detection may match them and then counts neither way. Detections less than the minimum height (whole
pixels) are ignored alike, and this is asked before their class. Score thresholds are those of true positives nearest
to 40 equal steps of recall. Detections that no annotation took, but that lie in a "don't care" region, are no errors.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bevkd.data.kitti.boxes import LIMITS
from bevkd.data.kitti.objects import NO_ANGLE, TYPES, Floats, Ints, Objects, placed
from bevkd.eval.kitti.matching import NOBODY, assign, preferences
from bevkd.eval.kitti.overlap import Measure, bev, box, image, overlapping

CLASSES = {"Car": 0.7, "Pedestrian": 0.5, "Cyclist": 0.5}  # with the overlap that a match must exceed
_NEIGHBOUR = {"Car": "van", "Pedestrian": "person_sitting"}
DIFFICULTIES = dict(zip(("easy", "moderate", "hard"), LIMITS, strict=True))
METRICS: dict[str, Measure] = {"2d": image, "bev": bev, "3d": box}
STEPS = 40
VALID, IGNORED, FOREIGN = 0, 1, -1

Curve = tuple[Floats, Floats]


def evaluate(labels: Objects, results: Objects) -> dict[str, Any]:
    """All metrics in percent: `{class: {"2d" | "bev" | "3d" | "aos": {difficulty: {"R11": x, "R40": y}}}}`.

    The key "mean" holds the mean over the classes. AOS is None where a detection has no orientation (alpha -10), BEV
    and 3D are None for a class of which no detection has a place in 3D.
    """
    oriented = not bool((results.column("alpha") == NO_ANGLE).any())
    out: dict[str, Any] = {}
    for name in CLASSES:
        of_class = results.select(results.kind == TYPES.index(name.lower()))
        flat = len(of_class) > 0 and not placed(of_class).any()
        cells: dict[str, Any] = {metric: {} for metric in (*METRICS, "aos")}
        for metric in METRICS:
            pairs = _Pairs(labels, results, name, METRICS[metric])
            for difficulty in DIFFICULTIES:
                precision, similarity = pairs.curves(difficulty)
                cells[metric][difficulty] = _positions(None if flat and metric != "2d" else precision)
                if metric == "2d":
                    cells["aos"][difficulty] = _positions(similarity if oriented else None)
        out[name] = cells
    out["mean"] = {
        metric: {d: _mean([out[name][metric][d] for name in CLASSES]) for d in DIFFICULTIES}
        for metric in (*METRICS, "aos")
    }
    return out


def _positions(curve: Floats | None) -> dict[str, float | None]:
    """Means in percent over recall 0, 0.1, ... 1 and over 1/40, 2/40, ... 1."""
    if curve is None:
        return {"R11": None, "R40": None}
    return {"R11": 100 * float(curve[:: STEPS // 10].mean()), "R40": 100 * float(curve[1:].mean())}


def _mean(cells: list[dict[str, float | None]]) -> dict[str, float | None]:
    out: dict[str, float | None] = {}
    for key in ("R11", "R40"):
        values = [cell[key] for cell in cells]
        out[key] = None if None in values else float(np.mean(values))  # type: ignore[arg-type]
    return out


class _Pairs:
    """Overlaps of one class and metric, from which every difficulty takes its share."""

    def __init__(self, labels: Objects, results: Objects, name: str, measure: Measure) -> None:
        self.kind = TYPES.index(name.lower())
        neighbour = TYPES.index(_NEIGHBOUR[name]) if name in _NEIGHBOUR else self.kind
        self.labels = labels.select((labels.kind == self.kind) | (labels.kind == neighbour))
        # The height of a detection is asked before its class: an annotation may take a low box of another class.
        low = _height(results) < max(limit for limit, _, _ in DIFFICULTIES.values())
        self.results = results.select((results.kind == self.kind) | low)
        found = overlapping(measure, self.labels, self.results, CLASSES[name])
        self.annotation, self.detection, self.overlap = found
        regions = labels.select(labels.kind == TYPES.index("dontcare"))
        covered, _, _ = overlapping(measure, self.results, regions, CLASSES[name], of_a=True)
        self.covered = np.zeros(len(self.results), dtype=bool)
        self.covered[covered] = True

    def curves(self, difficulty: str) -> Curve:
        """Precision and orientation similarity (41,) over recall, each the best at this recall or beyond."""
        height, occlusion, truncation = DIFFICULTIES[difficulty]
        labels, results = self.labels, self.results
        beyond = (
            (labels.column("occluded") > occlusion)
            | (labels.column("truncated") > truncation)
            | (labels.column("y2") - labels.column("y1") < height)
        )
        truth = np.where((labels.kind == self.kind) & ~beyond, VALID, IGNORED)
        other = np.where(results.kind == self.kind, VALID, FOREIGN)
        found = np.where(_height(results) < height, IGNORED, other)
        score = results.column("score")
        keep = found[self.detection] != FOREIGN
        pairs = (self.annotation[keep], self.detection[keep], labels.frame[self.annotation[keep]])
        ignored, overlap = found[pairs[1]].astype(np.float64), self.overlap[keep]

        # Which scores: annotations take the detection with the highest one, low boxes included.
        by_score = preferences(*pairs, -score[pairs[1]])
        chosen, _ = assign(by_score, np.ones((1, len(results)), dtype=bool), len(labels))
        hits = chosen[0][_true(chosen, truth, found)[0]]
        thresholds = _thresholds(score[hits], int((truth == VALID).sum()))

        # What they give: annotations take the largest overlap; low boxes, in the order of the file, only at need.
        by_overlap = preferences(*pairs, ignored, np.where(ignored > 0, 0.0, -overlap))
        above = score[None] >= thresholds[:, None]
        chosen, taken = assign(by_overlap, above, len(labels))
        true = _true(chosen, truth, found)
        positives = true.sum(axis=1)
        errors = (above & ~taken & (found == VALID) & ~self.covered).sum(axis=1)
        t, g = np.nonzero(true)
        turn = labels.column("alpha")[g] - results.column("alpha")[chosen[t, g]]
        alike = np.bincount(t, weights=(1 + np.cos(turn)) / 2, minlength=len(thresholds))
        total = np.maximum(positives + errors, 1)
        return _envelope(positives / total), _envelope(alike / total)


def _height(results: Objects) -> Floats:
    """Heights in the image, whole pixels: the benchmark drops the rest."""
    return np.floor(np.abs(results.column("y1") - results.column("y2")))


def _true(chosen: Ints, truth: Ints, found: Ints) -> NDArray[np.bool_]:
    """(T, G) whether an annotation that counts took a detection that counts."""
    if len(found) == 0:
        return np.zeros(chosen.shape, dtype=bool)
    return (chosen != NOBODY) & (truth == VALID)[None] & (found[chosen] == VALID)


def _thresholds(scores: Floats, annotations: int) -> Floats:
    """Of the scores of true positives, those whose recall is nearest to 0, 1/40, 2/40 and so on."""
    scores = np.sort(scores)[::-1]
    out, recall = [], 0.0
    for i, score in enumerate(scores):
        left = (i + 1) / annotations
        if i < len(scores) - 1 and (i + 2) / annotations - recall < recall - left:
            continue
        out.append(score)
        recall += 1 / STEPS
    return np.array(out, dtype=np.float64)


def _envelope(values: Floats) -> Floats:
    """(41,) the largest value from each position on, 0 where the recall was not reached."""
    out = np.zeros(STEPS + 1)
    out[: len(values)] = np.maximum.accumulate(values[::-1])[::-1][: STEPS + 1]
    return out
