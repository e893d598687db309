"""What `bevkd matches` writes, of detectors that are made up."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bevkd.eval.centres import MATCHED

FRAMES, PER_FRAME = 6, 8


def box(x: float, y: float) -> list[float]:
    return [x, y, 0.5, 4.0, 2.0, 1.5, 0.3]


def content(
    annotations: Sequence[tuple[int, int, float, float]],
    detections: Sequence[tuple[int, int, float, float, float, int]],
    frames: int = FRAMES,
) -> dict[str, Any]:
    """A file's content.

    Args:
        annotations: (frame, label, x, y).
        detections: (frame, label, x, y, score, annotation), by falling score.
        frames: how many.
    """
    columns = [
        {"frame": [r[0] for r in rows], "label": [r[1] for r in rows], "box": [box(r[2], r[3]) for r in rows]}
        for rows in (annotations, detections)
    ]
    more = {"score": [r[4] for r in detections], "annotation": [r[5] for r in detections]}
    hits = sum(r[5] >= 0 for r in detections)
    counts = {"matched": MATCHED, "annotated": len(annotations), "found": hits, "false": len(detections) - hits}
    tokens = [f"token-{i}" for i in range(frames)]
    return {**counts, "tokens": tokens, "annotations": columns[0], "detections": columns[1] | more}


def made_up(rng: np.random.Generator, share: float = 0.6) -> dict[str, Any]:
    """A detector that finds a share of annotations which are always the same, with as many detections."""
    annotations = [(f, k % 3, 5.0 * k - 20, 3.0 * f) for f in range(FRAMES) for k in range(PER_FRAME)]
    rows: list[tuple[int, int, float, float, int]] = []
    for at, (frame, label, x, y) in enumerate(annotations):
        hit = rng.random() < share
        shift = rng.uniform(-0.5, 0.5) if hit else rng.choice([30.0, 36.0])  # some false ones are those of others, too
        rows.append((frame, label, x + 0.1, y + shift, at if hit else -1))
    scores = np.sort(rng.random(len(rows)))[::-1]
    order = rng.permutation(len(rows))
    return content(annotations, [(*rows[at][:4], float(scores[i]), rows[at][4]) for i, at in enumerate(order)])


def write(file: Path, what: dict[str, Any]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(what))
    return file
