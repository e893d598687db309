"""Published numbers (config/reference/*.csv) and the selectors that tie them to cells of our tables."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from bevkd.config import config_dir
from bevkd.errors import ConfigError, DataError

COLUMNS = (
    "paper",
    "table",
    "row_label",
    "dataset",
    "split",
    "student_modality",
    "teacher_modality",
    "variant",
    "class",
    "metric",
    "value",
    "unit",
    "source",
)


@dataclass(frozen=True)
class Cell:
    """One published number: its line in the file (1 is the header) and all its columns as text."""

    file: Path
    line: int
    fields: tuple[tuple[str, str], ...]

    def __getitem__(self, name: str) -> str:
        return dict(self.fields)[name]

    @property
    def value(self) -> float:
        """The number.

        Raises:
            DataError: it is not one.
        """
        text = self["value"]
        try:
            return float(text)
        except ValueError:
            raise DataError(f"published value {text!r} is not a number", file=self.file, field="value") from None


@cache
def _load(folder: Path) -> tuple[Cell, ...]:
    cells: list[Cell] = []
    for path in sorted(folder.glob("*.csv")):
        with path.open(encoding="utf-8", newline="") as stream:
            reader = csv.DictReader(stream)
            missing = set(COLUMNS) - set(reader.fieldnames or ())
            if missing:
                raise DataError("reference file lacks a column", file=path, field=sorted(missing)[0])
            for record in reader:
                fields = tuple((name, (record[name] or "").strip()) for name in COLUMNS)
                cells.append(Cell(path, reader.line_num, fields))
    if not cells:
        raise DataError("no published numbers", file=folder)
    return tuple(cells)


def published(paper: str | None = None, table: str | None = None) -> list[Cell]:
    """All published numbers, or those of one paper or table.

    Raises:
        DataError: the reference folder is empty or a file is malformed.
    """
    cells = _load((config_dir() / "reference").resolve())
    return [c for c in cells if paper in (None, c["paper"]) and table in (None, c["table"])]


def select(where: dict[str, str]) -> Cell:
    """The one published number whose columns equal `where`.

    Raises:
        ConfigError: an unknown column, or not exactly one number fits.
    """
    unknown = set(where) - set(COLUMNS)
    if unknown:
        raise ConfigError(f"published-number selector has unknown column {sorted(unknown)[0]!r}")
    hits = [c for c in published() if all(c[name] == text for name, text in where.items())]
    if len(hits) != 1:
        what = ", ".join(f"{k}={v!r}" for k, v in where.items())
        raise ConfigError(f"{len(hits)} published numbers fit the selector ({what}); exactly one must")
    return hits[0]
