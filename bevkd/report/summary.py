"""Small machine-readable results for `dvc metrics` and `dvc plots`, and the joined ledgers, from parts and records."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import get_args

import pandas as pd

from bevkd.classes import CLASSES
from bevkd.config.chain import awaited
from bevkd.config.tiers import Tier
from bevkd.io import write_json, write_text
from bevkd.report import ledger, tables
from bevkd.report.claims import VERDICTS
from bevkd.report.frames import to_csv
from bevkd.report.misfits import table_file
from bevkd.report.parts import Part, joined_ledger, ledger_file, part_metrics
from bevkd.report.records import MAIN, RunRecord, record_file
from bevkd.report.results import Results

_KEYS = ("mAP", "NDS", "mATE", "mASE", "mAOE", "mAVE", "mAAE")


def write(results: Results) -> list[Path]:
    """Write `claims*.csv`, `metrics.json`, `metrics/<part>.json`, and `plots/{seeds,classes,training}.csv`.

    Metrics of a part are what fits a terminal, those of every run stand in `metrics.json`. The plots over runs show
    those on nuScenes, whose metrics can be compared.

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
    verdicts = Counter(finding.counted for finding in results.findings("all"))
    means = {
        run: {key: round(record.metrics[key], 3) for key in MAIN.get(reader[run], ()) if key in record.metrics}
        for run, record in records.items()
    }
    metrics = {"runs": means, "claims": {name: verdicts[name] for name in sorted(verdicts)}}
    write_json(results.folder / "metrics.json", metrics, indent=2)
    for part in _made(results):
        out.append(part_metrics(results.folder, part.name))
        write_json(out[-1], _of_part(results, part), indent=2)
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


def _made(results: Results) -> list[Part]:
    """Parts whose claims have been tested; a part without claims has an empty ledger."""
    shown = [part for target in get_args(Tier) for part in results.shown(target)]
    return [part for part in shown if ledger_file(results.folder, part.name).exists()]


def _of_part(results: Results, part: Part) -> dict[str, float]:
    """Number of runs, claims by verdict, and the best run that is nobody's teacher, by the main metric of its data.

    Tuning never looks at the reported split. The same few keys for every paper: `dvc metrics show` prints a column for
    each key and a line for each paper.
    """
    findings = ledger.read(ledger_file(results.folder, part.name)) if part.claims else []
    verdicts = Counter(finding.counted for finding in findings)
    runs = _tried(results, part) if part.target == "tuning" else part.runs(results.rows)
    out: dict[str, float] = {"runs": len(runs), **{name: verdicts[name] for name in VERDICTS}}
    teachers = awaited(results.rows)
    shown = [run for run in runs if run not in teachers and record_file(results.folder, run).exists()]
    if not shown or part.target == "tuning":
        return out
    main = MAIN.get(results.config(shown[0]).data.kind, ())[:1]  # those of other formats cannot be compared
    values = [record.metrics[key] for record in map(results.record, shown) for key in main if key in record.metrics]
    return out | ({"best": round(max(values), 3)} if values else {})


def _tried(results: Results, part: Part) -> list[str]:
    """The runs that tables of trials show: these need not have all that are planned."""
    files = [(spec, table_file(results.folder, name)) for name, spec in part.tables.items()]
    found = [tables.read(spec, file, results.rows) for spec, file in files if file.exists()]
    return list(dict.fromkeys(run for table in found for row in table.rows for run in row.run.split()))


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
