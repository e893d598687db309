"""Small machine-readable results for `dvc metrics` and `dvc plots`."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from bevkd.classes import CLASSES
from bevkd.io import write_json, write_text
from bevkd.report.claims import from_csv
from bevkd.report.logs import seed_curves
from bevkd.report.metrics import Runs
from bevkd.report.spec import ClaimConfig, TableConfig, load_claims, load_tables

# What `metrics.json` says of a run, by the format of its data set.
_MAIN = {
    "nuscenes": ("mAP", "NDS"),
    "kitti": ("3d_mean_moderate", "bev_mean_moderate"),
    "waymo": ("L2_AP_vehicle", "L2_AP_pedestrian", "L2_AP_cyclist", "LET_APL"),
}
_KEYS = ("mAP", "NDS", "mATE", "mASE", "mAOE", "mAVE", "mAAE")


def reported_runs(runs: Runs) -> list[str]:
    """Run ids behind the tables and claims of target `all`, in the order of the experiment rows."""
    items: list[TableConfig | ClaimConfig] = [*load_tables(runs.scale).values(), *load_claims(runs.scale).values()]
    items = [item for item in items if item.target == "all"]
    wanted = {run for item in items for run, _ in item.needs(runs.rows)}
    return [run for run in runs.rows if run in wanted]


def write(runs: Runs, results: Path) -> list[Path]:
    """Write `metrics.json`, `plots/seeds.csv`, `plots/classes.csv` and `plots/training.csv`.

    The plots over runs show those on nuScenes, whose metrics can be compared.

    Raises:
        DataError: a run, or the ledger, is missing.
    """
    names = reported_runs(runs)
    reader = {run: runs.config(run).data.kind for run in names}
    nuscenes = [*_KEYS, *(f"AP_{name}" for name in CLASSES)]
    found = {run: runs.values(run, "report", nuscenes) for run in names if reader[run] == "nuscenes"}
    means = {run: _means(runs.values(run, "report", _MAIN.get(reader[run], ()))) for run in names}
    verdicts = Counter(finding.verdict for finding in from_csv(results / "claims.csv"))
    metrics = {"runs": means, "claims": {name: verdicts[name] for name in sorted(verdicts)}}
    write_json(results / "metrics.json", metrics, indent=2)

    seeds = [
        [run, seed, *(f"{values[key]:.4f}" for key in _KEYS)]
        for run, table in found.items()
        for seed, values in table.items()
    ]
    classes = [
        [run, name, f"{np.mean([v[f'AP_{name}'] for v in table.values()]):.4f}"]
        for run, table in found.items()
        for name in CLASSES
    ]
    training = []
    for run in names:
        steps, values = seed_curves(runs, run, "total", 0.05)
        training += [[run, int(s), f"{v:.5f}"] for s, v in zip(steps, values.mean(axis=0), strict=True)]
    plots = results / "plots"
    return [
        results / "metrics.json",
        _csv(plots / "seeds.csv", ["run", "seed", *_KEYS], seeds),
        _csv(plots / "classes.csv", ["run", "class", "AP"], classes),
        _csv(plots / "training.csv", ["run", "step", "total"], training),
    ]


def _means(seeds: Mapping[int, Mapping[str, float]]) -> dict[str, float]:
    keys = next(iter(seeds.values()))
    return {key: round(float(np.mean([values[key] for values in seeds.values()])), 3) for key in keys}


def _csv(path: Path, head: Sequence[str], rows: Sequence[Sequence[object]]) -> Path:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerows([head, *rows])
    write_text(path, stream.getvalue())
    return path
