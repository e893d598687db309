"""Whether a part of the results was made for the comparisons of today, or for other ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from bevkd.config import RowConfig, identity_digest
from bevkd.report import ledger, tables
from bevkd.report.frames import ColumnsError
from bevkd.report.parts import Part, ledger_file
from bevkd.report.records import RunRecord, read_record, record_file
from bevkd.report.runs import kept_config, read_config


def table_file(results: Path, table: str) -> Path:
    """The numbers of a table."""
    return results / "tables" / f"{table}.csv"


def misfit(results: Path, part: Part, rows: Mapping[str, RowConfig]) -> str:
    """Which of `claims`, `columns`, `runs` and `seeds` are others than those of today in what was made; "" if none.

    Raises:
        ConfigError: a run of the part is unknown.
        DataError: a file is damaged.
    """
    path = ledger_file(results, part.name)
    try:
        if path.exists() and {finding.claim for finding in ledger.read(path)} != set(part.claims):
            return "claims"
        for name, spec in part.tables.items():
            file = table_file(results, name)
            if file.exists() and (what := _other_repetitions(tables.read(spec, file, rows), rows)):
                return what
    except ColumnsError:
        return "columns"
    return "seeds" if any(record.seed_ids != rows[record.run].seeds for record in _records(results, part, rows)) else ""


def has_other_settings(results: Path, record: RunRecord) -> bool:
    """Whether the resolved config that lies beside a record is of another run than the record.

    Raises:
        DataError: there is none, or it does not fit this version.
    """
    return record.settings not in (None, identity_digest(read_config(kept_config(results, record.run))))


def is_of_other_settings(results: Path, part: Part, rows: Mapping[str, RowConfig]) -> bool:
    """Whether one of the runs of a part has other settings than its record says."""
    kept = _records(results, part, rows)
    return any(has_other_settings(results, record) for record in kept if kept_config(results, record.run).exists())


def _records(results: Path, part: Part, rows: Mapping[str, RowConfig]) -> list[RunRecord]:
    return [read_record(results, run) for run in part.runs(rows) if record_file(results, run).exists()]


def _other_repetitions(table: tables.Table, rows: Mapping[str, RowConfig]) -> str:
    for row in table.rows:
        runs = row.run.split()
        if not set(runs) <= set(rows):
            return "runs"
        if row.seeds != tables.seeds_text(table.spec, row.group, runs, rows):
            return "seeds"
    return ""
