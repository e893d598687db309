"""The results folder: what page and summaries are made from, without a run, an index or a data set."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from bevkd.config import RowConfig, RunConfig
from bevkd.config.chain import find_row
from bevkd.config.tiers import Tier
from bevkd.errors import DataError
from bevkd.io import read_json
from bevkd.report import clipping, ledger, tables, width
from bevkd.report.claims import Finding
from bevkd.report.counts import DatasetRecord, read_dataset
from bevkd.report.figure_kinds import FigureConfig
from bevkd.report.machines import mixture
from bevkd.report.misfits import has_other_settings, is_of_other_settings, misfit, table_file
from bevkd.report.parts import Part, ledger_file, part_file, parts_of, runs_behind
from bevkd.report.records import RunRecord, read_record, record_file
from bevkd.report.runs import kept_config, read_config
from bevkd.report.spec import load_claims, load_figures, load_tables
from bevkd.report.tables import Table

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Results:
    """Tables, figures, ledger parts, resolved configs and records of one scale.

    Attributes:
        folder: `results`, or the folder of another scale in it.
        scale: scale name.
        rows: experiment rows by run id; they say which seeds exist.
        partial: leave out what has not been made, or was for something else, instead of raising an error.
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
        return find_row(run, self.rows)

    def config_file(self, run: str) -> Path:
        """Resolved config of the first seed."""
        return kept_config(self.folder, run)

    def config(self, run: str) -> RunConfig:
        """Resolved config of the first seed.

        Raises:
            DataError: it is not there, or does not fit this version.
        """
        return read_config(self.config_file(run))

    def runs(self) -> list[str]:
        """Run ids behind the tables and claims shown of target `all`, in the order of the experiment rows."""
        items = [item for part in self.shown("all") for item in part.comparisons()]
        names = runs_behind(items, self.rows)
        return [run for run in names if self._there(record_file(self.folder, run))]

    @cached_property
    def _records(self) -> dict[str, RunRecord]:
        return {}

    def _kept(self, run: str) -> RunRecord:
        """The record of a run, read once for all tables that show it."""
        if run not in self._records:
            self._records[run] = read_record(self.folder, run)
        return self._records[run]

    def record(self, run: str) -> RunRecord:
        """What is kept of a run.

        Raises:
            DataError: nothing is, or of other seeds than its row names; unless `partial`, or of other settings than
                its resolved config has.
        """
        record, file = self._kept(run), record_file(self.folder, run)
        if record.seed_ids != self.row(run).seeds:
            known = ", ".join(map(str, record.seed_ids))
            raise DataError(f"record of {run!r} is of seeds {known}", file=file, field="seeds")
        if not self.partial and has_other_settings(self.folder, record):
            raise DataError(f"record of {run!r} is of other settings than its config", file=file, field="settings")
        return record

    def datasets(self) -> list[DatasetRecord]:
        """Counts of the data sets behind the runs."""
        return [
            read_dataset(self.folder, index) for index in dict.fromkeys(self.config(r).data.index for r in self.runs())
        ]

    def tables(self, target: Tier) -> list[Table]:
        """Tables of a target, what a paper prints first; those of other targets than `all` where they are.

        Raises:
            DataError: one is missing or has other columns.
        """
        specs = [spec for part in self.shown(target) for spec in part.tables.values()]
        names = list(load_tables(self.scale))
        specs.sort(key=lambda spec: (not spec.published, names.index(spec.name)))
        files = [(spec, table_file(self.folder, spec.name)) for spec in specs]
        found = [tables.read(spec, file, self.rows) for spec, file in files if self._there(file, target)]
        claims = load_claims(self.scale).values()
        clipped = [clipping.remarked(table, self.rows, self._clipped) for table in found]
        return [width.remarked(self._with_machines(table), claims) for table in clipped]

    def _clipped(self, run: str) -> float | None:
        """Share of the steps of a run that were clipped; None: not known."""
        if not record_file(self.folder, run).exists():
            return None
        return clipping.mean_of([seed.clipped for seed in self._kept(run).seeds])

    def _with_machines(self, table: Table) -> Table:
        """A table, with a note (and a warning) where its rows were trained on different machines or libraries."""
        names = dict.fromkeys(run for row in table.rows for run in row.run.split())
        records = [self._kept(run) for run in names if record_file(self.folder, run).exists()]
        mixed = mixture(seed.made for record in records for seed in record.seeds)
        if not mixed:
            return table
        logger.warning("table %s: %s", table.spec.name, mixed)
        return replace(table, notes=(*table.notes, mixed))

    def figures(self, target: Tier) -> list[tuple[FigureConfig, Path]]:
        """Figures of a target and their images; those of other targets than `all` where they are.

        Raises:
            DataError: one is missing.
        """
        shown = [name for part in self.shown(target) for name in part.figures]
        files = {name: self._image(name) for name in shown}
        missing = [name for name, file in files.items() if not file.exists()]
        if missing and target == "all" and not self.partial:
            raise DataError(f"figure {missing[0]!r} has not been made", file=files[missing[0]])
        return [(spec, files[name]) for name, spec in load_figures(self.scale).items() if name in {*shown} - {*missing}]

    def absent(self, part: Part) -> dict[str, list[str]]:
        """Kind (`tables`, `figures`, `claims`) -> names of what a part of target `all` should have, and has not yet."""
        if part.target != "all":
            return {}
        claims = [] if ledger_file(self.folder, part.name).exists() else list(part.claims)
        found = {
            "tables": [name for name in part.tables if not table_file(self.folder, name).exists()],
            "figures": [name for name in part.figures if not self._image(name).exists()],
            "claims": claims,
        }
        return {kind: names for kind, names in found.items() if names}

    def _image(self, figure: str) -> Path:
        return self.folder / "figures" / f"{figure}.png"

    def findings(self, target: Tier) -> list[Finding]:
        """The joined ledger of a target, in the order of the claims.

        Raises:
            DataError: a part is missing, or has not the claims that it should.
        """
        out = []
        for part in self.shown(target):
            path = ledger_file(self.folder, part.name)
            if part.claims and self._there(path, target):
                found = ledger.read(path)
                if {finding.claim for finding in found} != set(part.claims):
                    raise DataError(f"claims are not those of part {part.name!r}; make it anew", file=path)
                out += found
        return ledger.joined(out, list(load_claims(self.scale)))

    def shown(self, target: Tier) -> list[Part]:
        """Parts of a target without those that are left out because they were made for something else."""
        return [part for part in self.parts.values() if part.target == target and part.name not in self.misfits]

    @cached_property
    def misfits(self) -> dict[str, str]:
        """By part that is left out: the `claims`, `columns`, `runs` or `seeds` that are others than those of today.

        A part of target `all` is left out only where `partial`; otherwise what reads it raises an error.

        Raises:
            DataError: a file is damaged.
        """
        lenient = [part for part in self.parts.values() if self.partial or part.target != "all"]
        found = {part.name: misfit(self.folder, part, self.rows) for part in lenient}
        return {name: what for name, what in found.items() if what}

    def _there(self, path: Path, target: Tier = "all") -> bool:
        """Whether to read a file: also one that is missing, for the error, unless it may be."""
        return path.exists() or not (self.partial or target != "all")

    def made(self) -> dict[str, dict[str, Any]]:
        """By part that has been made: by which code, when and on what, see `bevkd.provenance`."""
        files = {name: part_file(self.folder, name) for name in self.parts}
        return {name: read_json(file) for name, file in files.items() if file.exists()}

    @cached_property
    def missing(self) -> dict[str, list[str]]:
        """What is wrong with parts -> their names: not made (target `all`), or made for something else.

        Raises:
            DataError: a file is damaged.
        """
        made = self.made()
        out: dict[str, list[str]] = {}
        for name, part in self.parts.items():
            if part.target == "all" and name not in made:
                out.setdefault("not made yet", []).append(name)
            elif name in self.misfits:
                out.setdefault(f"made for other {self.misfits[name]}", []).append(name)
            elif is_of_other_settings(self.folder, part, self.rows):
                out.setdefault("made with other settings", []).append(name)
        return out
