"""Waymo's metrics the slow way: one frame, breakdown and cut-off at a time, all assignments tried.

Written for tests and benchmarks; shares nothing with `bevkd.eval.waymo` but names.
"""

from __future__ import annotations

import math
from itertools import pairwise, permutations
from typing import Any

import numpy as np
from shapely.affinity import rotate
from shapely.geometry import box as rectangle

NAMES = ("VEHICLE", "PEDESTRIAN", "SIGN", "CYCLIST")
BANDS = ("[0, 30)", "[30, 50)", "[50, +inf)")
SENSOR = np.array([1.43, 0.0, 2.184])


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """3D IoU."""

    def footprint(v: np.ndarray) -> Any:
        flat = rectangle(v[0] - v[3] / 2, v[1] - v[4] / 2, v[0] + v[3] / 2, v[1] + v[4] / 2)
        return rotate(flat, v[6], origin=(v[0], v[1]), use_radians=True)

    height = min(a[2] + a[5] / 2, b[2] + b[5] / 2) - max(a[2] - a[5] / 2, b[2] - b[5] / 2)
    inter = footprint(a).intersection(footprint(b)).area * max(0.0, height)
    return inter / (np.prod(a[3:6]) + np.prod(b[3:6]) - inter)


def tolerant(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """IoU after alignment along the line of sight, and longitudinal affinity."""
    p, g = a.astype(float).copy(), b.astype(float).copy()
    p[:3] -= SENSOR
    g[:3] -= SENSOR
    away = np.linalg.norm(g[:3])
    angle = (p[:3] @ g[:3]) / np.linalg.norm(p[:3]) / away
    error = abs(np.linalg.norm(p[:3]) * angle - away) / max(0.1 * away, 0.5)
    p[:3] *= (p[:3] @ g[:3]) / (p[:3] @ p[:3])
    return overlap(p, g), min(1.0, max(0.0, 1 - error))


def shard(box: np.ndarray, kind: int, breakdown: str) -> str | None:
    if kind == 0:
        return None
    if breakdown == "OBJECT_TYPE":
        return f"OBJECT_TYPE_TYPE_{NAMES[kind - 1]}"
    away = math.sqrt(float((box[:3].astype(float) ** 2).sum()))
    return f"RANGE_TYPE_{NAMES[kind - 1]}_{BANDS[0 if away < 30 else 1 if away < 50 else 2]}"


def best_matching(weight: np.ndarray) -> list[tuple[int, int]]:
    """Pairs of greatest total weight; pairs of weight 0 do not count."""
    n, m = weight.shape
    size = max(n, m)
    square = np.zeros((size, size), dtype=int)
    square[:n, :m] = weight
    best = max(permutations(range(size)), key=lambda order: sum(square[i, j] for i, j in enumerate(order)))
    return [(i, j) for i, j in enumerate(best) if square[i, j] > 0]


def area(points: list[tuple[float, float]]) -> float:
    """Average precision of (recall, precision) points."""
    table: dict[float, float] = {0.0: 1.0}
    for r, p in points:
        r = float(np.float32(r))
        table[r] = max(table.get(r, 0.0), p)
    recalls = sorted(table)
    curve = []
    for i, r in reversed(list(enumerate(recalls))):
        curve.append((r, max(table[q] for q in recalls[i:])))
        if i > 0:
            after, step = curve[-1][1], 1
            while r - step * 0.05 - recalls[i - 1] > 1e-6:
                curve.append((r - step * 0.05, after))
                step += 1
    if len(curve) > 1:
        curve[-1] = (0.0, curve[-2][1])
    return sum((a[0] - b[0]) * (a[1] + b[1]) / 2 for a, b in pairwise(curve))


def evaluate(data: dict[str, np.ndarray], let: bool = False) -> dict[str, dict[str, float]]:
    """`{shard_LEVEL_n: {"ap", "aph"[, "apl"]}}`."""
    least = (0.5, 0.3, 0.3, 0.3) if let else (0.7, 0.5, 0.5, 0.5)
    fits = {}
    for i, a in enumerate(data["pred_box"]):
        for j, b in enumerate(data["gt_box"]):
            if (data["pred_frame"][i], data["pred_type"][i]) == (data["gt_frame"][j], data["gt_type"][j]):
                fits[i, j] = tolerant(a, b) if let else (overlap(a, b), 1.0)
    out = {}
    names = [f"OBJECT_TYPE_TYPE_{n}" for n in NAMES] + [f"RANGE_TYPE_{n}_{b}" for n in NAMES for b in BANDS]
    for name in names:
        breakdown = "RANGE" if name.startswith("RANGE") else "OBJECT_TYPE"
        own = {
            part: [i for i, b in enumerate(data[f"{part}_box"]) if shard(b, data[f"{part}_type"][i], breakdown) == name]
            for part in ("pred", "gt")
        }
        curves: dict[tuple[int, str], list[tuple[float, float]]] = {}
        for k in range(101):
            cut = np.float32(k / 100)
            tp = fp = 0
            fn, heading, affinity = [0, 0], 0.0, 0.0
            for frame in np.union1d(data["pred_frame"], data["gt_frame"]):
                p = [i for i in own["pred"] if data["pred_frame"][i] == frame and data["pred_score"][i] >= cut]
                g = [j for j in own["gt"] if data["gt_frame"][j] == frame]
                weight = np.zeros((len(p), len(g)), dtype=int)
                for x, i in enumerate(p):
                    for y, j in enumerate(g):
                        iou, near = fits[i, j]
                        if np.float32(iou) >= np.float32(least[data["pred_type"][i] - 1]) and near > 0:
                            weight[x, y] = round(1e6 * iou * near)
                pairs = best_matching(weight) if p and g else []
                tp += len(pairs)
                for x, y in pairs:
                    turn = (data["pred_box"][p[x], 6] - data["gt_box"][g[y], 6]) % (2 * math.pi)
                    heading += 1 - min(turn, 2 * math.pi - turn) / math.pi
                    affinity += fits[p[x], g[y]][1]
                fp += sum(not data["pred_nlz"][i] for x, i in enumerate(p) if x not in {a for a, _ in pairs})
                for y, j in enumerate(g):
                    if y not in {b for _, b in pairs}:
                        fn[1] += 1
                        fn[0] += data["gt_difficulty"][j] == 1
            for level in (1, 2):
                recall = tp / (tp + fn[level - 1]) if tp + fn[level - 1] else 0.0
                for kind, total in (("ap", tp), ("aph", heading), ("apl", affinity)):
                    precision = total / (tp + fp) if tp + fp else 0.0
                    curves.setdefault((level, kind), []).append((recall, 1.0 if recall == 0 else precision))
        for level in (1, 2):
            kinds = ("ap", "aph", "apl") if let else ("ap", "aph")
            out[f"{name}_LEVEL_{level}"] = {kind: area(curves[level, kind]) for kind in kinds}
    return out


def random_sets(seed: int, frames: int = 6) -> dict[str, np.ndarray]:
    """Crowds of near-duplicates, so that predictions compete for annotations and annotations for predictions."""
    rng = np.random.default_rng(seed)
    rows: dict[str, list[Any]] = {"pred": [], "gt": []}
    for frame in range(frames):
        for _ in range(0 if frame == 2 else int(rng.integers(1, 4))):
            kind = int(rng.choice([0, 1, 1, 2, 2, 3, 4]))
            away, angle = rng.choice([12.0, 29.5, 30.5, 49.8, 60.0]), rng.uniform(-3, 3)
            centre = [away * np.cos(angle), away * np.sin(angle), rng.uniform(-0.5, 0.5)]
            box = np.array([*centre, 3.0, 2.0, 1.6, rng.uniform(-4, 4)])
            for _ in range(int(rng.integers(1, 3))):
                near = box + rng.normal(0, 1, 7) * [0.25, 0.25, 0.05, 0.05, 0.05, 0.05, 0.1]
                rows["gt"].append((near, kind, frame, int(rng.integers(1, 3))))
            for _ in range(int(rng.integers(0, 3))):
                near = box + rng.normal(0, 1, 7) * [0.3, 0.3, 0.05, 0.05, 0.05, 0.05, 0.6]
                score = round(float(rng.uniform()), int(rng.integers(1, 4)))
                rows["pred"].append((near, kind, frame, score, bool(rng.random() < 0.2)))
    order = {part: rng.permutation(len(rows[part])) for part in rows}
    columns = {part: list(zip(*[rows[part][i] for i in order[part]], strict=True)) for part in rows}
    return {
        "pred_box": np.array(columns["pred"][0], dtype=np.float32),
        "pred_type": np.array(columns["pred"][1], dtype=np.uint8),
        "pred_frame": np.array(columns["pred"][2], dtype=np.int64),
        "pred_score": np.array(columns["pred"][3], dtype=np.float32),
        "pred_nlz": np.array(columns["pred"][4], dtype=bool),
        "gt_box": np.array(columns["gt"][0], dtype=np.float32),
        "gt_type": np.array(columns["gt"][1], dtype=np.uint8),
        "gt_frame": np.array(columns["gt"][2], dtype=np.int64),
        "gt_difficulty": np.array(columns["gt"][3], dtype=np.uint8),
    }
