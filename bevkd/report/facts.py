"""What the report says about data, runs and settings: read from index, logs and resolved configs."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bevkd.classes import LABEL_INDEX
from bevkd.config import DataConfig, ModelConfig, RowConfig, to_plain
from bevkd.data.index import read_stamp
from bevkd.errors import DataError
from bevkd.report.logs import read_lines, training_seconds
from bevkd.report.metrics import Runs


@dataclass(frozen=True)
class DatasetFacts:
    """One data set: counts per split, boxes per split and class, frames per weather and lighting."""

    index: str
    splits: dict[str, dict[str, int]]
    boxes: dict[str, dict[str, int]]
    conditions: dict[str, dict[str, int]]


def dataset_facts(data: DataConfig) -> DatasetFacts:
    """Count an index.

    Raises:
        DataError: there is no index, or a part of it is missing.
    """
    folder = Path(data.index)
    read_stamp(folder)
    frames = _columns(folder / "frames.parquet", ["split", "scene", "labelled", "weather", "lighting"])
    boxes = _columns(folder / "boxes.parquet", ["frame", "label"])
    split = np.array(frames["split"])
    wanted = [s for s in dict.fromkeys((data.train_split, data.tune_split, data.report_split)) if (split == s).any()]
    owner = split[np.array(boxes["frame"], dtype=int)] if boxes["frame"] else np.array([], dtype=str)
    labels = np.array(boxes["label"], dtype=int)
    splits, by_class = {}, {}
    for name in wanted:
        rows = np.flatnonzero(split == name)
        labelled = [frames["labelled"][i] for i in rows]
        splits[name] = {
            "scenes": len({frames["scene"][i] for i in rows}),
            "frames": len(rows),
            # The lists bind training only; without any list every keyframe is labelled.
            "labelled": sum(name != data.train_split or s is None or 0 in s for s in labelled),
        }
        counts = Counter(labels[owner == name].tolist())
        by_class[name] = {label: counts.get(LABEL_INDEX[label], 0) for label in data.classes}
    conditions = {}
    for name in ("weather", "lighting"):
        known = [str(value) for value in frames[name] if value]
        conditions[name] = dict(sorted(Counter(known).items()))
    return DatasetFacts(data.index, splits, by_class, conditions)


def _columns(path: Path, names: list[str]) -> dict[str, list[Any]]:
    try:
        table = pq.read_table(path, columns=names)
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"part of the index cannot be read: {error}", file=path) from error
    return {name: table[name].to_pylist() for name in names}


@dataclass(frozen=True)
class RunFacts:
    """One run: its row, the weights of its distillation losses, the training time of a seed (s), steps, frames/s."""

    row: RowConfig
    weights: dict[str, float]
    steps: int
    seconds: float
    frames_per_second: float


def run_facts(runs: Runs, run: str) -> RunFacts:
    """Facts of a trained run, averaged over seeds.

    Raises:
        DataError: config or log is missing.
    """
    row = runs.row(run)
    seconds, rates, steps = [], [], 0
    for seed in row.seeds:
        path = runs.folder(run, seed) / "log.jsonl"
        lines = read_lines(path)
        steps = int(lines[-1]["step"])
        seconds.append(training_seconds(path))
        frames = steps * runs.config(run).train.frames_per_batch
        rates.append(frames / seconds[-1] if seconds[-1] > 0 else math.nan)
    return RunFacts(row, loss_weights(runs, run), steps, float(np.mean(seconds)), float(np.mean(rates)))


_IMAGE_LEVELS = (1,) * 4  # as many as any image backbone has


def loss_weights(runs: Runs, run: str) -> dict[str, float]:
    """Weights of a run's distillation losses as its method resolves them for this pair of sensors; empty without one.

    Raises:
        ConfigError: the method does not connect these two networks.
        DataError: the run or its teacher has not been trained.
    """
    from bevkd.distill import build_method
    from bevkd.models.outputs import FeatureSpec

    row = runs.config(run).row
    if row.method is None:
        return {}
    # Weights depend on the sensors alone, so one channel of everything makes the method cheap to build.
    names = (run, row.teacher or run)
    own, other = (FeatureSpec.of_bev(1, 1, 1, 1, runs.config(name).model.sensors, _IMAGE_LEVELS) for name in names)
    return build_method(row.method, own, other).weights()


def flatten(value: Any, at: str = "") -> dict[str, Any]:
    """Nested dictionaries as `a.b.c -> leaf`; empty dictionaries are leaves."""
    if not isinstance(value, dict) or not value:
        return {at: value}
    out: dict[str, Any] = {}
    for key, inner in value.items():
        out |= flatten(inner, f"{at}.{key}" if at else str(key))
    return out


@dataclass(frozen=True)
class Switch:
    """One option: its default, what most runs used, and the runs that differ (run id -> value)."""

    key: str
    default: Any
    usual: Any
    exceptions: dict[str, Any]


def method_switches(runs: Runs, names: list[str]) -> dict[str, list[Switch]]:
    """For each distillation method every option as it was used.

    Raises:
        DataError: a run has not been trained.
    """
    from bevkd.distill import method_settings

    used: dict[str, dict[str, dict[str, Any]]] = {}
    defaults: dict[str, dict[str, Any]] = {}
    for run in names:
        method = runs.config(run).row.method
        if method is None:
            continue
        options = method_settings(method)
        used.setdefault(method.kind, {})[run] = flatten(to_plain(options))
        defaults[method.kind] = flatten(to_plain(type(options)()))
    out = {}
    for name, table in sorted(used.items()):
        switches = []
        for key in dict.fromkeys(k for options in table.values() for k in options):
            values = {run: options.get(key) for run, options in table.items()}
            usual = Counter(map(repr, values.values())).most_common(1)[0][0]
            typical = next(v for v in values.values() if repr(v) == usual)
            odd = {run: v for run, v in values.items() if repr(v) != usual}
            switches.append(Switch(key, defaults[name].get(key), typical, odd))
        out[name] = switches
    return out


def detector_settings(runs: Runs, names: list[str]) -> tuple[list[str], list[tuple[str, Any, list[Any]]]]:
    """Model names, and the settings that differ from the published defaults: (key, published, value per model).

    A model is shown as its first run without a teacher has it.

    Raises:
        DataError: a run has not been trained.
    """
    first: dict[str, str] = {}
    for run in sorted(names, key=lambda name: runs.row(name).teacher is not None):
        first.setdefault(runs.row(run).model, run)
    published = flatten(to_plain(ModelConfig()))
    used = {model: flatten(to_plain(runs.config(run).model)) for model, run in first.items()}
    keys = dict.fromkeys([*published, *(key for settings in used.values() for key in settings)])
    rows = []
    for key in keys:
        values = [settings.get(key) for settings in used.values()]
        if any(value != published.get(key) for value in values):
            rows.append((key, published.get(key), values))
    return list(used), rows
