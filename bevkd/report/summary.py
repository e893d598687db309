"""Small machine-readable results for `dvc metrics` and `dvc plots`, and the joined ledgers, from parts and records."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pandas as pd

from bevkd.classes import CLASSES
from bevkd.io import write_json, write_text
from bevkd.report import ledger
from bevkd.report.frames import to_csv
from bevkd.report.parts import joined_ledger
from bevkd.report.records import MAIN, RunRecord
from bevkd.report.results import Results

_KEYS = ("mAP", "NDS", "mATE", "mASE", "mAOE", "mAVE", "mAAE")


def write(results: Results) -> list[Path]:
    """Write `claims*.csv`, `metrics.json`, `plots/seeds.csv`, `plots/classes.csv` and `plots/training.csv`.

    The plots over runs show those on nuScenes, whose metrics can be compared.

    Raises:
        DataError: a record, or a part of the ledger, is missing.
    """
    out = []
    for target in ("all", "extended"):
        findings = results.findings(target)
        if findings or target == "all":
            out.append(joined_ledger(results.folder, target))
            write_text(out[-1], to_csv(ledger.to_frame(findings)))
    reader = {run: results.config(run).data.kind for run in results.runs()}
    records = {run: results.record(run) for run in reader}
    verdicts = Counter(finding.verdict for finding in results.findings("all"))
    means = {
        run: {key: round(record.metrics[key], 3) for key in MAIN.get(reader[run], ()) if key in record.metrics}
        for run, record in records.items()
    }
    metrics = {"runs": means, "claims": {name: verdicts[name] for name in sorted(verdicts)}}
    write_json(results.folder / "metrics.json", metrics, indent=2)
    nuscenes = {run: record for run, record in records.items() if reader[run] == "nuscenes"}
    plots = {
        "seeds": (_seeds(nuscenes), 4),
        "classes": (_classes(nuscenes), 4),
        "training": (_training(records), 5),
    }
    for name, (frame, digits) in plots.items():
        out.append(results.folder / "plots" / f"{name}.csv")
        write_text(out[-1], to_csv(frame, digits))
    return [*out, results.folder / "metrics.json"]


def _seeds(records: dict[str, RunRecord]) -> pd.DataFrame:
    lines = [
        {"run": run, "seed": seed.seed, **{key: seed.metrics.get(key) for key in _KEYS}}
        for run, record in records.items()
        for seed in record.seeds
    ]
    return pd.DataFrame(lines, columns=["run", "seed", *_KEYS])


def _classes(records: dict[str, RunRecord]) -> pd.DataFrame:
    lines = [(run, name, record.metrics.get(f"AP_{name}")) for run, record in records.items() for name in CLASSES]
    return pd.DataFrame(lines, columns=["run", "class", "AP"])


def _training(records: dict[str, RunRecord]) -> pd.DataFrame:
    lines = [(run, step, value) for run, record in records.items() for step, value in record.curve]
    return pd.DataFrame(lines, columns=["run", "step", "total"])
