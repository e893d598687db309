"""KITTI's metrics the slow way: one frame, threshold, annotation and detection at a time, as the rules read.

Written for tests and benchmarks; shares nothing with `bevkd.eval.kitti` but the order of the columns.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from shapely.geometry import Polygon

CLASSES = {"car": 0.7, "pedestrian": 0.5, "cyclist": 0.5}
KINDS = ("Car", "Pedestrian", "Cyclist", "Van", "Person_sitting", "Truck", "car")
NEIGHBOUR = {"car": "van", "pedestrian": "person_sitting"}
LIMITS = {"easy": (40, 0, 0.15), "moderate": (25, 1, 0.3), "hard": (25, 2, 0.5)}


@dataclass
class Thing:
    """One line of a file."""

    kind: str
    v: list[float]  # the columns after the type

    @property
    def score(self) -> float:
        return self.v[14]

    def polygon(self) -> Polygon:
        width, length, x, z, turn = self.v[8], self.v[9], self.v[10], self.v[12], self.v[13]
        c, s = math.cos(turn), math.sin(turn)
        corners = [(i * length / 2, j * width / 2) for i, j in ((1, 1), (1, -1), (-1, -1), (-1, 1))]
        return Polygon([(x + c * a + s * b, z - s * a + c * b) for a, b in corners])


def parse(text: str, scored: bool) -> list[Thing]:
    out = []
    for line in text.splitlines():
        kind, *words = line.split()
        out.append(Thing(kind.lower(), [float(w) for w in words] + ([] if scored else [0.0])))
    return out


def image(a: Thing, b: Thing, of_a: bool) -> float:
    w = min(a.v[5], b.v[5]) - max(a.v[3], b.v[3])
    h = min(a.v[6], b.v[6]) - max(a.v[4], b.v[4])
    if w <= 0 or h <= 0:
        return 0.0
    area_a, area_b = ((t.v[5] - t.v[3]) * (t.v[6] - t.v[4]) for t in (a, b))
    return w * h / (area_a if of_a else area_a + area_b - w * h)


def ground(a: Thing, b: Thing, of_a: bool) -> float:
    if a.v[10] == -1000 or b.v[10] == -1000:
        return 0.0
    p, q = a.polygon(), b.polygon()
    inter = p.intersection(q).area
    return inter / (p.area if of_a else p.area + q.area - inter)


def solid(a: Thing, b: Thing, of_a: bool) -> float:
    if a.v[10] == -1000 or b.v[10] == -1000:
        return 0.0
    inter = a.polygon().intersection(b.polygon()).area
    inter *= max(0.0, min(a.v[11], b.v[11]) - max(a.v[11] - a.v[7], b.v[11] - b.v[7]))
    volume_a, volume_b = (t.v[7] * t.v[8] * t.v[9] for t in (a, b))
    return inter / (volume_a if of_a else volume_a + volume_b - inter)


def statistics(
    truth: list[Thing], found: list[Thing], name: str, level: str, overlaps: Any, score: float | None
) -> tuple[list[float], int, int, float, list[bool], list[int], list[bool]]:
    """Scores of true positives, their number, that of false positives, the summed orientation similarity; and of each
    detection whether it was taken, its state, and whether it is below the score."""
    height, occlusion, truncation = LIMITS[level]
    least = CLASSES[name]
    state = []
    for t in truth:
        beyond = t.v[1] > occlusion or t.v[0] > truncation or t.v[6] - t.v[4] < height
        own, near = t.kind == name, t.kind == NEIGHBOUR.get(name)
        state.append(0 if own and not beyond else 1 if own or near else -1)
    usable = [1 if int(abs(f.v[4] - f.v[6])) < height else 0 if f.kind == name else -1 for f in found]
    low = [score is not None and f.score < score for f in found]
    taken = [False] * len(found)
    scores, similarity = [], 0.0
    for i, t in enumerate(truth):
        if state[i] < 0:
            continue
        best, best_score, best_overlap, spare = None, -math.inf, 0.0, False
        for j, f in enumerate(found):
            if usable[j] < 0 or taken[j] or low[j] or not overlaps[j, i] > least:
                continue
            if score is None:
                if f.score > best_score:
                    best, best_score = j, f.score
            elif usable[j] == 0 and (overlaps[j, i] > best_overlap or spare):
                best, best_overlap, spare = j, overlaps[j, i], False
            elif usable[j] == 1 and best is None:
                best, spare = j, True
        if best is None:
            continue
        taken[best] = True
        if state[i] == 0 and usable[best] == 0:
            scores.append(found[best].score)
            similarity += (1 + math.cos(t.v[2] - found[best].v[2])) / 2
    errors = sum(not taken[j] and usable[j] == 0 and not low[j] for j in range(len(found)))
    return scores, len(scores), errors, similarity, taken, usable, low


def curve(frames: list[tuple[list[Thing], list[Thing]]], name: str, level: str, metric: Any) -> Any:
    """Precision and similarity at 41 positions."""
    tables, covers, hits, count = [], [], [], 0
    for truth, found in frames:
        table = np.array([[metric(f, t, False) for t in truth] for f in found]).reshape(len(found), len(truth))
        regions = [t for t in truth if t.kind == "dontcare"]
        tables.append(table)
        covers.append([any(metric(f, r, True) > CLASSES[name] for r in regions) for f in found])
        hits += statistics(truth, found, name, level, table, None)[0]
        height, occlusion, truncation = LIMITS[level]
        for t in truth:
            count += t.kind == name and t.v[1] <= occlusion and t.v[0] <= truncation and t.v[6] - t.v[4] >= height
    hits.sort(reverse=True)
    thresholds, recall = [], 0.0
    for i, s in enumerate(hits):
        left, right = (i + 1) / count, (i + 2) / count
        if i < len(hits) - 1 and right - recall < recall - left:
            continue
        thresholds.append(s)
        recall += 1 / 40
    precision, alike = [0.0] * 41, [0.0] * 41
    for k, s in enumerate(thresholds):
        positives = errors = 0
        similarity = 0.0
        for (truth, found), table, cover in zip(frames, tables, covers, strict=True):
            _, tp, fp, sim, taken, usable, low = statistics(truth, found, name, level, table, s)
            fp -= sum(c and not taken[j] and usable[j] == 0 and not low[j] for j, c in enumerate(cover))
            positives, errors, similarity = positives + tp, errors + fp, similarity + sim
        if positives + errors:
            precision[k], alike[k] = positives / (positives + errors), similarity / (positives + errors)
    for k in range(len(thresholds)):
        precision[k], alike[k] = max(precision[k:]), max(alike[k:])
    return precision, alike


def evaluate(frames: list[tuple[list[Thing], list[Thing]]]) -> dict[str, Any]:
    """`{class: {metric: {difficulty: {"R11", "R40"}}}}` in percent, metrics 2d, bev, 3d and aos."""

    def cell(c: list[float]) -> dict[str, float]:
        return {"R11": 100 * sum(c[::4]) / 11, "R40": 100 * sum(c[1:]) / 40}

    out: dict[str, Any] = {}
    for name in CLASSES:
        cells: dict[str, Any] = {"2d": {}, "bev": {}, "3d": {}, "aos": {}}
        for level in LIMITS:
            for metric, measure in (("2d", image), ("bev", ground), ("3d", solid)):
                precision, alike = curve(frames, name, level, measure)
                cells[metric][level] = cell(precision)
                if metric == "2d":
                    cells["aos"][level] = cell(alike)
        out[name.capitalize()] = cells
    return out


def random_line(rng: np.random.Generator, kind: str, like: list[float] | None = None) -> list[float]:
    """Columns after the type; with `like`, a noisy copy of another object."""
    if like is not None:
        noise = rng.normal(0, 1, 14) * ([0, 0, 0.2] + [1.5] * 4 + [0.05] * 3 + [0.1, 0.1, 0.1, 0.05])
        v = (np.array(like) + noise).tolist()
        v[4], v[6] = min(v[4], v[6]), max(v[4], v[6])
        v[3], v[5] = min(v[3], v[5]), max(v[3], v[5])
        return [-1, -1, *v[2:7], *[max(0.1, s) for s in v[7:10]], *v[10:]]
    x1, y1 = rng.uniform(0, 1000), rng.uniform(100, 200)
    height = float(rng.choice([24.0, 24.9, 25.0, 39.5, 40.0, 60.0, 90.0]))
    size = {"Car": (1.5, 1.6, 4.0), "Cyclist": (1.7, 0.6, 1.8)}.get(kind, (1.7, 0.7, 0.8))
    place = [rng.uniform(-8, 8), rng.uniform(1.4, 1.8), rng.uniform(5, 25)]
    truncation = float(rng.choice([0.0, 0.15, 0.2, 0.3, 0.4, 0.6]))
    angles = (rng.uniform(-3, 3), rng.uniform(-3, 3))
    return [truncation, int(rng.integers(0, 4)), angles[0], x1, y1, x1 + 60, y1 + height, *size, *place, angles[1]]


def random_set(folder: Path, seed: int, frames: int = 20) -> None:
    """Crowded frames with ties, low boxes, other classes, don't-care regions and frames without anything."""
    rng = np.random.default_rng(seed)
    for part in ("labels", "results"):
        (folder / part).mkdir()
    for frame in range(frames):
        labels, results = [], []
        for _ in range(0 if frame == 3 else int(rng.integers(0, 9))):
            kind = str(rng.choice(KINDS))
            row = random_line(rng, kind)
            labels.append((kind, row))
            for _ in range(int(rng.integers(0, 4))):
                other = str(rng.choice(KINDS)) if rng.random() < 0.25 else kind
                score = float(rng.choice([0.1, 0.3, 0.5, 0.7, 0.9])) if rng.random() < 0.5 else float(rng.uniform())
                exact = rng.random() < 0.2  # equal overlaps: the order of the file decides
                results.append((other, [*(row if exact else random_line(rng, kind, row)), score]))
        for _ in range(int(rng.integers(0, 3))):
            x, y = rng.uniform(0, 900), rng.uniform(80, 180)
            labels.append(("DontCare", [-1, -1, -10, x, y, x + 200, y + 120, -1, -1, -1, -1000, -1000, -1000, -10]))
        for _ in range(int(rng.integers(0, 5))):
            results.append((str(rng.choice(KINDS)), [*random_line(rng, "Car"), float(rng.uniform())]))
        if frame == 5:
            results = []
        for part, rows in (("labels", labels), ("results", results)):
            text = "".join(f"{kind} {' '.join(repr(v) for v in row)}\n" for kind, row in rows)
            (folder / part / f"{frame:06d}.txt").write_text(text)
