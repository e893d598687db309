"""Training logs of runs (`log.jsonl`): loss curves and run times."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bevkd.errors import DataError, nearest

Array = NDArray[np.float64]
DETECTION = "det"


def read_lines(path: Path) -> list[dict[str, Any]]:
    """All lines of a finished run's log.

    Raises:
        DataError: missing, empty, or a line is not a JSON object with `step` and `losses`.
    """
    try:
        texts = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise DataError("training log is missing", file=path) from None
    lines = []
    for number, text in enumerate(texts, 1):
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            raise DataError(f"line {number} of the training log is not JSON", file=path) from None
        if not isinstance(line, dict) or not {"step", "losses"} <= line.keys():
            raise DataError(f"line {number} of the training log lacks step or losses", file=path)
        lines.append(line)
    if not lines:
        raise DataError("training log is empty", file=path)
    return lines


def curve(path: Path, field: str, loss: Any) -> tuple[Array, Array]:
    """Steps and one logged loss, or `det`: the logged detection terms under the fixed weights of `loss`.

    `det` leaves distillation and depth supervision out and does not know learnt scales, so that runs with and without
    them can be compared.

    Raises:
        DataError: a line lacks the loss, or it is not finite.
    """
    weights, optional = {field: 1.0}, {}
    if field == DETECTION:
        weights = {name: getattr(loss, f"{name}_weight") for name in ("heatmap", "loc")}
        # Terms that only heads with an IoU branch, or with an IoU loss, have.
        optional = {name: getattr(loss, f"{name}_weight") for name in ("iou_aware", "iou")}
    lines = read_lines(path)
    steps, values = [], []
    for line in lines:
        losses = line["losses"]
        for name in weights:
            if name not in losses:
                hint = nearest(name, losses)
                raise DataError(f"training log has no loss {name!r}{hint}", file=path, field=name)
        present = weights | {name: weight for name, weight in optional.items() if name in losses}
        # Null is what JSON has for a number that is not finite.
        known = {name: math.nan if losses[name] is None else float(losses[name]) for name in present}
        value = sum(weight * known[name] for name, weight in present.items())
        if not math.isfinite(value):
            raise DataError(f"loss is not finite at step {line['step']}", file=path, field=field)
        steps.append(float(line["step"]))
        values.append(value)
    return np.array(steps), np.array(values)


def smooth(values: Array, window: int) -> Array:
    """Moving average over `window` lines, centred; at the ends over what there is, so the length stays."""
    window = max(1, window)
    half = window // 2
    total = np.concatenate([[0.0], np.cumsum(values)])
    index = np.arange(len(values))
    low, high = np.maximum(index - half, 0), np.minimum(index + half + 1, len(values))
    return np.asarray((total[high] - total[low]) / (high - low))


def training_seconds(lines: Iterable[dict[str, Any]]) -> float:
    """Wall time of the training steps of a log: waiting for data and computing."""
    return float(sum(line.get("data_s", 0.0) + line.get("compute_s", 0.0) for line in lines))
