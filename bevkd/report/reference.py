"""Published numbers (config/reference/*.csv) and the selectors that tie them to cells of our tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from bevkd.config import ConfigTree, config_tree
from bevkd.errors import ConfigError, DataError
from bevkd.report.frames import read_text

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
NOTE = "note"  # a column that a file may have: what is to be said of a cell, such as a misprint
_HUNDREDFOLD = ("mATE", "mASE", "mAOE", "mAVE", "mAAE")  # printed x100, if not in one of these units
_FIELD_UNITS = ("m", "1-IoU", "rad", "m/s", "1-acc")


@dataclass(frozen=True)
class Cell:
    """One published number: its line in the file (1 is the header) and all its columns as text."""

    file: Path
    line: int
    fields: Mapping[str, str]

    def __getitem__(self, name: str) -> str:
        return self.fields[name]

    @property
    def parts(self) -> dict[str, str]:
        """What its variant is made of, `{"epoch": "4"}` of `epoch=4`."""
        named = (part.partition("=") for part in self["variant"].split(";"))
        return {name.strip(): text.strip() for name, sign, text in named if sign}

    @property
    def note(self) -> str:
        """What is to be said of the number, or nothing."""
        return self[NOTE]

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

    @property
    def printed(self) -> float:
        """The number in printed units: an error that its source gives in the field's own unit is x100.

        Raises:
            DataError: it is not one.
        """
        return self.value * (100 if self["metric"] in _HUNDREDFOLD and self["unit"] in _FIELD_UNITS else 1)


@cache
def _load(tree: ConfigTree) -> tuple[Cell, ...]:
    """All published numbers, file by file."""
    cells: list[Cell] = []
    for path in tree.files("reference").values():
        frame = read_text(path)
        missing = set(COLUMNS) - set(frame.columns)
        if missing:
            raise DataError("reference file lacks a column", file=path, field=sorted(missing)[0])
        lines = frame.reindex(columns=[*COLUMNS, NOTE], fill_value="").to_dict("records")
        for line, fields in enumerate(lines, start=2):
            cells.append(Cell(path, line, {str(name): text.strip() for name, text in fields.items()}))
    if not cells:
        raise DataError("no published numbers", file=tree.file("reference"))
    return tuple(cells)


@cache
def _known_parts(tree: ConfigTree) -> frozenset[str]:
    """All names of parts of variants."""
    return frozenset(name for cell in _load(tree) for name in cell.parts)


@cache
def _by_table(tree: ConfigTree) -> dict[tuple[str, str], tuple[Cell, ...]]:
    """The numbers by paper and table."""
    out: dict[tuple[str, str], list[Cell]] = {}
    for cell in _load(tree):
        out.setdefault((cell["paper"], cell["table"]), []).append(cell)
    return {key: tuple(cells) for key, cells in out.items()}


def _cells(where: Mapping[str, str]) -> list[Cell]:
    tree = config_tree()
    # A page asks some hundred times, nearly always for one table.
    one = (where["paper"], where["table"]) if {"paper", "table"} <= where.keys() else None
    known = _load(tree) if one is None else _by_table(tree).get(one, ())
    whole = {name: text for name, text in where.items() if name in COLUMNS}
    parts = {name: text for name, text in where.items() if name not in COLUMNS}
    found = (cell for cell in known if all(cell.fields[name] == text for name, text in whole.items()))
    return [cell for cell in found if all(cell.parts.get(name) == text for name, text in parts.items())]


def published(paper: str | None = None, table: str | None = None) -> list[Cell]:
    """All published numbers, or those of one paper or table.

    Raises:
        DataError: the reference folder is empty or a file is malformed.
    """
    return _cells({name: text for name, text in (("paper", paper), ("table", table)) if text is not None})


def select(where: dict[str, str]) -> Cell:
    """The one published number whose columns, or parts of its variant (`epoch: "4"`), equal `where`.

    Raises:
        ConfigError: an unknown column, or not exactly one number fits.
    """
    unknown = set(where) - set(COLUMNS) - _known_parts(config_tree())
    if unknown:
        raise ConfigError(f"published-number selector has unknown column {sorted(unknown)[0]!r}")
    hits = _cells(where)
    if len(hits) != 1:
        what = ", ".join(f"{k}={v!r}" for k, v in where.items())
        raise ConfigError(f"{len(hits)} published numbers fit the selector ({what}); exactly one must")
    return hits[0]
