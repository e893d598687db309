"""Synthetic finished runs for the report tests: the files a trained and evaluated run leaves, without the training."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from matches_synthetic import made_up

from bevkd.classes import CLASSES
from bevkd.config import DataConfig, ModelConfig, RowConfig, RunConfig, TrainConfig, run_dir, to_plain
from bevkd.config.snapshots import snapshot_metrics
from bevkd.eval.attention import Attention, write_attention
from bevkd.geometry import BEVGrid
from bevkd.models.camera.lss_simulated_settings import SimulatedLSSSettings
from bevkd.models.radar.pillar_mlp_settings import PillarMLPSettings
from bevkd.report.metrics import METRICS
from bevkd.report.runs import cost_file, response_file

SENSORS: dict[str, tuple[Any, ...]] = {"image": ("camera",), "camera": ("camera",), "fusion": ("lidar", "camera")}
ERRORS = ("trans_err", "scale_err", "orient_err", "vel_err", "attr_err")
# Beginnings of the keys of a benchmark's metrics; others are nuScenes'.
STARTS = {"kitti": ("2d_", "bev_", "3d_", "aos_"), "waymo": ("L1_", "L2_", "LET_")}
# Plausible mean AP per kind of run, so that figures and tables can be looked at.
LEVEL = {
    "distillbev_mvp": 0.72,
    "distillbev": 0.12,
    "simdistill_teacher": 0.5,
    "simdistill": 0.12,
    "image": 0.3,
    "lidar": 0.45,
    "camera": 0.11,
    "fusion": 0.50,
    "s7": 0.45,
    "s6": 0.12,
    "le": 0.18,
    "ll": 0.14,
    "tune": 0.2,
    "mvp": 0.72,
    "bevdet": 0.12,
    "bevdet4d": 0.12,
    "bevdepth": 0.12,
    "bevfusion": 0.12,
}


def summary(mean_ap: float, rng: np.random.Generator) -> dict[str, Any]:
    """A metrics summary with every key of the devkit's."""
    aps = {name: float(np.clip(mean_ap + rng.normal(0, 0.05), 0, 1)) for name in CLASSES}
    shift = mean_ap - sum(aps.values()) / len(aps)
    aps = {name: ap + shift for name, ap in aps.items()}
    errors = {name: float(np.clip(1 - mean_ap + rng.normal(0, 0.02), 0, 1)) for name in ERRORS}
    nds = (5 * mean_ap + sum(1 - e for e in errors.values())) / 10
    return {
        "label_aps": {name: {str(d): ap for d in (0.5, 1.0, 2.0, 4.0)} for name, ap in aps.items()},
        "mean_dist_aps": aps,
        "mean_ap": mean_ap,
        "label_tp_errors": {name: dict(errors) for name in CLASSES},
        "tp_errors": errors,
        "tp_scores": {name: 1 - e for name, e in errors.items()},
        "nd_score": nds,
        "eval_time": 1.0,
        "cfg": {},
        "meta": {},
    }


def benchmark_summary(reader: str, mean_ap: float, rng: np.random.Generator) -> dict[str, Any]:
    """A metrics summary of KITTI or Waymo, with every number that tables can show."""
    out: dict[str, Any] = {}
    for metric in METRICS.values():
        if metric.key.startswith(STARTS[reader]):
            place = out
            for name in metric.field[:-1]:
                place = place.setdefault(name, {})
            place[metric.field[-1]] = float(np.clip(mean_ap + rng.normal(0, 0.02), 0, 1)) * 100 / metric.factor
    return out


def cost_summary(taught: bool, rng: np.random.Generator) -> dict[str, Any]:
    """What `bevkd bench` writes of three repeats; medians are left out, tables do not read them."""
    repeats = []
    for _ in range(3):
        plain = {name: x * rng.uniform(0.9, 1.1) for name, x in (("loss_s", 0.1), ("step_s", 0.2), ("memory_gib", 0.5))}
        more = {name: rng.uniform(1, 90) for name in ("loss_increase", "step_increase", "memory_increase_gib")}
        with_teacher = {name: value * rng.uniform(1.1, 2) for name, value in plain.items()} | more
        way = with_teacher if taught else plain | dict.fromkeys(more)
        repeats.append({"plain": plain, "live": way, "cached": way})
    return {"repeats": repeats}


def gates_summary(rng: np.random.Generator) -> dict[str, Any]:
    """What `bevkd gates` writes."""
    ways = {way: {place: rng.uniform(0.1, 0.9) for place in ("boxes", "roads")} for way in ("area", "ungated", "gated")}
    return {"frames": 4, "area": ways.pop("area"), "camera": ways}


def write_attention_file(file: Path, rng: np.random.Generator) -> None:
    """What `bevkd attention` writes: the same frames of every run, each with two peaks, one at the vehicle."""
    grid = BEVGrid.centred(25.6, 6.4)
    values = rng.uniform(0.5, 1, (4, grid.H, grid.W))
    values[:, 3:5, 3:5] += 2
    values[np.arange(4), np.arange(4), 7] += 2
    values *= values[0].size / values.sum((1, 2), keepdims=True)
    write_attention(Attention(file, [f"token-{i}" for i in range(4)], values.astype(np.float32), grid))


def level(row: RowConfig) -> float:
    """A plausible mean AP for a run."""
    base = next((v for k, v in LEVEL.items() if row.id.startswith(k)), LEVEL[row.model.split("_")[0]])
    return base + (0.01 if row.method else 0.0)


GROUPS = (
    *("range:0-10", "range:10-15", "range:15-25", "range:0-20", "range:20-30", "range:30-50"),
    *("weather:sunny", "weather:rainy", "lighting:day", "lighting:night"),
)


def of_group(mean_ap: float, rng: np.random.Generator) -> dict[str, object]:
    """Metrics of a group of a breakdown."""
    return summary(mean_ap, rng) | {"mean_ap_present": mean_ap, "frames": 64, "boxes": 400}


def write_run(
    root: Path,
    row: RowConfig,
    seed: int,
    mean_ap: float,
    *,
    scale: str = "sim",
    steps: int = 100,
    tune: bool = True,
    clipped: float = 0.2,
) -> Path:
    """Write config.yaml, metrics and log of one finished run; returns its folder."""
    folder = run_dir(row.id, scale, seed, root)
    folder.mkdir(parents=True, exist_ok=True)
    said = row.set.get("train", {})
    train = TrainConfig(steps=int(said.get("steps", steps)), snapshots=int(said.get("snapshots", 0)))
    if row.model.startswith("camera_radar"):
        model = ModelConfig(sensors=("camera", "radar"), radar=PillarMLPSettings())
    elif row.model == "simdistill":
        model = ModelConfig(sensors=("camera",), camera=SimulatedLSSSettings())
    else:
        model = ModelConfig(sensors=SENSORS.get(row.model.split("_")[0], ("lidar",)))
    kind = row.dataset.split("_")[0]
    data = DataConfig(kind=kind if kind in (*STARTS, "nuimages") else "nuscenes")
    config = RunConfig(run=row.id, scale=scale, seed=seed, row=row, train=train, model=model, data=data)
    (folder / "config.yaml").write_text(yaml.safe_dump(to_plain(config), sort_keys=False))
    rng = np.random.default_rng([seed, *row.id.encode()])
    for split in ("val", "tune") if tune else ("val",):
        content = summary(mean_ap, rng) if data.kind not in STARTS else benchmark_summary(data.kind, mean_ap, rng)
        (folder / f"metrics_{split}.json").write_text(json.dumps(content))
        ratios = {key: rng.uniform(0.1, 0.9) for key in ("border_ratio", "background_ratio", "false_share")}
        (folder / f"gates_{split}.json").write_text(json.dumps(gates_summary(rng)))
        (folder / f"matches_{split}.json").write_text(json.dumps(made_up(rng)))
        response = response_file(row.id, scale, seed, split, root)
        response.parent.mkdir(parents=True, exist_ok=True)
        response.write_text(json.dumps(ratios))
    for number in range(1, train.snapshots):
        part = folder / snapshot_metrics(number, train.snapshots, "val")
        part.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(
            json.dumps(summary(mean_ap * number / train.snapshots, np.random.default_rng([11, seed, number])))
        )
    # Numbers of their own stream: those above are what they were without these.
    other = np.random.default_rng([9, seed, *row.id.encode()])
    for split in ("val", "tune") if tune else ("val",):
        write_attention_file(folder / f"attention_{split}.npz", np.random.default_rng([10, seed, *row.id.encode()]))
    for split in ("val", "conditions") if data.kind == "nuscenes" else ():
        (folder / f"breakdown_{split}.json").write_text(
            json.dumps({group: of_group(mean_ap, other) for group in GROUPS})
        )
    cost = cost_file(row.id, scale, root)
    cost.parent.mkdir(parents=True, exist_ok=True)
    cost.write_text(json.dumps(cost_summary(row.teacher is not None, rng)))
    with (folder / "log.jsonl").open("w") as stream:
        for step in range(0, steps, 10):
            det = 10 * np.exp(-step / (steps * (0.5 - 0.1 * bool(row.method)))) + 2 + rng.normal(0, 0.3)
            losses = {"total": det + 1, "heatmap": det - 1, "loc": 4.0}  # "det" of these is det, at the default weights
            losses |= {"det": det} | ({"kd_total": 0.5 * det * row.method.factor} if row.method else {})
            record = {"step": step + 10, "losses": losses, "lr": 1e-3, "data_s": 0.1, "compute_s": 0.9}
            record |= {"grad_norm": 8.0, "clipped": clipped, "clip_scale": 1 - 0.5 * clipped}
            stream.write(json.dumps(record) + "\n")
    return folder


def write_runs(
    root: Path,
    rows: dict[str, RowConfig],
    needs: Iterable[tuple[str, int]],
    mean_ap: Callable[[RowConfig, int], float] | None = None,
    scale: str = "sim",
) -> None:
    """Write every needed run; by default seeds shift all runs together, as paired seeds do."""
    for run, seed in needs:
        row = rows[run]
        noise = np.random.default_rng([7, seed]).normal(0, 0.01)
        own = np.random.default_rng([8, seed, *run.encode()]).normal(0, 0.003)
        write_run(root, row, seed, mean_ap(row, seed) if mean_ap else level(row) + noise + own, scale=scale)
