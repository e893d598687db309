"""The results folder: what page and summaries are made from, without a run, an index or a data set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from bevkd.config import RowConfig, RunConfig
from bevkd.errors import DataError
from bevkd.io import read_json
from bevkd.report import ledger, tables
from bevkd.report.claims import Finding
from bevkd.report.counts import DatasetRecord, read_dataset
from bevkd.report.parts import Part, ledger_file, part_file, parts_of, runs_behind
from bevkd.report.records import RunRecord, read_record, record_file
from bevkd.report.runs import read_config, row_of
from bevkd.report.spec import Target, load_claims, load_figures, load_tables


@dataclass(frozen=True)
class Results:
    """Tables, figures, ledger parts, resolved configs and records of one scale.

    Attributes:
        folder: `results`, or the folder of another scale in it.
        scale: scale name.
        rows: experiment rows by run id; they say which seeds exist.
        partial: leave out what has not been made, instead of raising an error.
    """

    folder: Path
    scale: str
    rows: Mapping[str, RowConfig]
    partial: bool = False

    @cached_property
    def parts(self) -> dict[str, Part]:
        """All parts by name, made or not."""
        return parts_of(load_tables(self.scale), load_figures(self.scale), load_claims(self.scale))

    def row(self, run: str) -> RowConfig:
        """The experiment row of a run.

        Raises:
            ConfigError: there is none.
        """
        return row_of(self.rows, run)

    def config_file(self, run: str) -> Path:
        """Resolved config of the first seed."""
        return self.folder / "configs" / f"{run}.yaml"

    def config(self, run: str) -> RunConfig:
        """Resolved config of the first seed.

        Raises:
            DataError: it is not there, or does not fit this version.
        """
        return read_config(self.config_file(run))

    def runs(self) -> list[str]:
        """Run ids behind the tables and claims of target `all`, in the order of the experiment rows."""
        items = [item for part in self.parts.values() if part.target == "all" for item in part.comparisons()]
        names = runs_behind(items, self.rows)
        return [run for run in names if self._there(record_file(self.folder, run))]

    def record(self, run: str) -> RunRecord:
        """What is kept of a run.

        Raises:
            DataError: nothing is, or of other seeds than its row names.
        """
        record = read_record(self.folder, run)
        seeds = tuple(seed.seed for seed in record.seeds)
        if seeds != self.row(run).seeds:
            known = ", ".join(map(str, seeds))
            raise DataError(f"record of {run!r} is of seeds {known}", file=record_file(self.folder, run), field="seeds")
        return record

    def datasets(self) -> list[DatasetRecord]:
        """Counts of the data sets behind the runs."""
        return [
            read_dataset(self.folder, index) for index in dict.fromkeys(self.config(r).data.index for r in self.runs())
        ]

    def tables(self, target: Target) -> list[tables.Table]:
        """Tables of a target, what a paper prints first; those of other targets than `all` where they are.

        Raises:
            DataError: one is missing or has other columns.
        """
        specs = [spec for part in self.parts.values() for spec in part.tables.values() if spec.target == target]
        files = {spec.name: self.folder / "tables" / f"{spec.name}.csv" for spec in specs}
        names = list(load_tables(self.scale))
        specs.sort(key=lambda spec: (not spec.published, names.index(spec.name)))
        return [tables.read(spec, files[spec.name]) for spec in specs if self._there(files[spec.name], target)]

    def findings(self, target: Target) -> list[Finding]:
        """The joined ledger of a target, in the order of the claims.

        Raises:
            DataError: a part is missing, or has not the claims that it should.
        """
        out = []
        for part in self.parts.values():
            path = ledger_file(self.folder, part.name)
            if part.target == target and part.claims and self._there(path, target):
                found = ledger.read(path)
                if {finding.claim for finding in found} != set(part.claims):
                    raise DataError(f"claims are not those of part {part.name!r}; make it anew", file=path)
                out += found
        return ledger.joined(out, list(load_claims(self.scale)))

    def _there(self, path: Path, target: Target = "all") -> bool:
        """Whether to read a file: also one that is missing, for the error, unless it may be."""
        return path.exists() or not (self.partial or target != "all")

    def made(self) -> dict[str, dict[str, Any]]:
        """By part that has been made: by which code, when and on what, see `bevkd.provenance`."""
        files = {name: part_file(self.folder, name) for name in self.parts}
        return {name: read_json(file) for name, file in files.items() if file.exists()}

    def missing(self) -> list[str]:
        """Parts of target `all` that have not been made."""
        made = self.made()
        return [part.name for part in self.parts.values() if part.target == "all" and part.name not in made]
