"""What is kept of a run when its folder is gone: a small file per run and its seeds, for page, summaries and plots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bevkd.classes import CLASSES
from bevkd.config import identity_digest
from bevkd.io import json_text, read_json, write_if_other
from bevkd.report.course import course_of
from bevkd.report.logs import read_lines, training_seconds
from bevkd.report.runs import Runs
from bevkd.report.stored import read_as

if TYPE_CHECKING:
    from bevkd.models.features import FeatureSpec

# Metrics that `metrics.json` and the plots show, by the format of the data set: the main ones, and the others.
MAIN = {
    "nuscenes": ("mAP", "NDS"),
    "kitti": ("3d_mean_moderate", "bev_mean_moderate"),
    "waymo": ("L2_AP_vehicle", "L2_AP_pedestrian", "L2_AP_cyclist", "LET_APL"),
    "nuimages": ("mAP50",),
}
MORE = {"nuscenes": ("mATE", "mASE", "mAOE", "mAVE", "mAAE", *(f"AP_{name}" for name in CLASSES))}
WINDOW = 0.05  # of the loss curve's moving average
POINTS = 200  # at most so many of a loss curve are kept


@dataclass(frozen=True)
class SeedRecord:
    """One seed of a run; None: not known.

    Attributes:
        seed: the seed.
        seconds: wall time of the training steps, waiting for data included.
        frames_per_second: frames of all steps over that time.
        metrics: on the report split, in printed units.
        made: what it was trained by and on, see `bevkd.provenance`, and its precision.
        clipped, clip_scale, kd_share: how the training went, see `bevkd.report.course`.
        teacher_seed: which training of its teacher it learnt from.
    """

    seed: int
    seconds: float | None
    frames_per_second: float | None
    metrics: dict[str, float]
    made: dict[str, Any] | None
    clipped: float | None = None
    clip_scale: float | None = None
    kd_share: float | None = None
    teacher_seed: int | None = None


@dataclass(frozen=True)
class RunRecord:
    """A run over its seeds.

    Attributes:
        run: id.
        scale: scale name.
        settings: digest of the settings that determine the first seed's result; None: not known.
        source: where this was read from if not from the run itself.
        steps: of a training.
        seconds: mean over seeds.
        frames_per_second: mean over seeds.
        weights: of the distillation losses, as published.
        metrics: mean over seeds, on the report split.
        seeds: one by one.
        curve: steps, and the smoothed total loss there, mean over seeds.
        factor: of all distillation losses, on top of their weights.
    """

    run: str
    scale: str
    settings: str | None
    source: str | None
    steps: int
    seconds: float | None
    frames_per_second: float | None
    weights: dict[str, float]
    metrics: dict[str, float]
    seeds: tuple[SeedRecord, ...]
    curve: tuple[tuple[int, float], ...]
    factor: float = 1.0

    @property
    def seed_ids(self) -> tuple[int, ...]:
        """Its seeds, in order."""
        return tuple(seed.seed for seed in self.seeds)


def make_record(runs: Runs, run: str) -> RunRecord:
    """The record of a finished run; metrics where it was evaluated on the report split.

    Raises:
        DataError: config, log or teacher's config is missing or unusable.
    """
    config = runs.config(run)
    keys = [*MAIN.get(config.data.kind, ()), *MORE.get(config.data.kind, ())]
    seeds, steps = [], 0
    evaluated = all(runs.file("metrics", run, seed, "report").exists() for seed in runs.row(run).seeds)
    metrics = runs.values(run, "report", keys) if evaluated else {}
    for seed in runs.row(run).seeds:
        lines = read_lines(runs.file("log", run, seed, "report"))
        steps, seconds = int(lines[-1]["step"]), training_seconds(lines)
        rate = steps * config.train.frames_per_batch / seconds if seconds > 0 else None
        made = runs.folder(run, seed) / "provenance.json"
        found = {key: round(value, 6) for key, value in metrics.get(seed, {}).items()}
        course = {name: value and round(value, 4) for name, value in asdict(course_of(lines)).items()}
        known = read_json(made) if made.exists() else None
        learnt_from = config.row.teacher_seed_for(seed) if config.row.teacher is not None else None
        rate = rate and round(rate, 4)
        seeds.append(SeedRecord(seed, round(seconds, 3), rate, found, known, **course, teacher_seed=learnt_from))
    at, values = runs.curves(run, "total", WINDOW)
    every = -(-len(at) // POINTS)
    kept = slice((len(at) - 1) % every, None, every)  # the last one always
    curve = tuple((int(step), round(float(v), 6)) for step, v in zip(at[kept], values.mean(axis=0)[kept], strict=True))
    return RunRecord(
        run=run,
        scale=runs.scale,
        settings=identity_digest(config),
        source=None,
        steps=steps,
        seconds=_mean([seed.seconds for seed in seeds]),
        frames_per_second=_mean([seed.frames_per_second for seed in seeds]),
        weights=loss_weights(runs, run),
        metrics={key: round(float(np.mean([v[key] for v in metrics.values()])), 6) for key in keys if evaluated},
        seeds=tuple(seeds),
        curve=curve,
        factor=config.row.method.factor if config.row.method is not None else 1.0,
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(float(np.mean(known)), 4) if len(known) == len(values) else None


_IMAGE_LEVELS = (1,) * 4  # as many as any image backbone has


def loss_weights(runs: Runs, run: str) -> dict[str, float]:
    """Weights of a run's distillation losses as its method resolves them for this pair of sensors; empty without one.

    Raises:
        ConfigError: the method does not connect these two networks.
        DataError: the run or its teacher has not been trained.
    """
    from bevkd.distill import build_method

    row = runs.config(run).row
    if row.method is None:
        return {}
    # Weights depend on the sensors alone, so one channel of everything makes the method cheap to build.
    names = (run, row.teacher or run)
    models = (runs.config(name).model for name in names)
    own, other = (_one_channel_of_everything(model.sensors, model.maps) for model in models)
    return build_method(row.method, own, other).weights()


def _one_channel_of_everything(sensors: tuple[str, ...], fused: tuple[str, ...] = ()) -> FeatureSpec:
    from bevkd.models.features import FeatureInfo, FeatureSpec

    spec = FeatureSpec.of_bev(1, 1, 1, 1, sensors, _IMAGE_LEVELS)
    maps = [name for one in fused or sensors for name in (one, f"{one}.raw", f"gated.{one}")]
    more = {name: FeatureInfo(1) for name in maps} | {f"B{k}": FeatureInfo(1, 2**k) for k in range(3)}
    return replace(spec, features={**spec.features, **more})


def record_file(results: Path, run: str) -> Path:
    """Where the record of a run lies."""
    return results / "records" / f"{run}.json"


def write_record(record: RunRecord, results: Path) -> Path:
    """Write a record, a line per field and per seed."""
    lines = []
    for name, value in asdict(record).items():
        text = json_text(value)
        if name == "seeds":
            text = "[\n  " + ",\n  ".join(json_text(seed) for seed in value) + "\n ]"
        lines.append(f" {json_text(name)}: {text}")
    path = record_file(results, record.run)
    text = "{\n" + ",\n".join(lines) + "\n}\n"
    write_if_other(path, text)
    return path


def read_record(results: Path, run: str) -> RunRecord:
    """Read back a record.

    Raises:
        DataError: missing, or not a record.
    """
    path = record_file(results, run)
    missing = f"run {run!r} has no record: its part of the results has not been made"
    return read_as(RunRecord, path, "the record of a run", missing)
