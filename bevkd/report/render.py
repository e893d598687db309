"""A filled table as text: the grid of printed cells, and its Markdown and LaTeX forms."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

from bevkd.config.protocols import PROTOCOLS, WORDING
from bevkd.io import write_text
from bevkd.report import factors
from bevkd.report.frames import to_csv
from bevkd.report.metrics import Shown, metric, said
from bevkd.report.spec import TableConfig
from bevkd.report.tables import Row, Table, to_frame

_HOW = "Each cell of ours: mean ± sample standard deviation over n trained seeds; — where the paper prints no number."
_UNSEEDED_HOW = {
    "cost": "Costs of training: over the repeats of a benchmark, of the first seed.",
    "profile": "Size, multiply-accumulates and latency: of the network for one frame.",
}
UNLEARNT = "†"  # marks an error so large that it scores nothing
_NOT_LEARNT = (
    f"{UNLEARNT} Not learnt: an error of 1 (m, rad, m/s, or as a fraction) or more scores 0, whatever its size."
)
CONTEXT_TITLE = "Published, without a run of ours"
_POWER = (
    "Sd: of the paired differences. ±: half-width of the 95 % interval over so many paired seeds, which is the smallest"
    " effect that they can tell from 0; wanted: a third of the published relative gain, of our baseline's mean, or as"
    " the row says."
)
_RAISED = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class Grid:
    """One printed panel.

    Attributes:
        title: of the panel, or nothing.
        head: names of the columns.
        rows: cells, as many per row as there are columns.
        groups: the row groups in order, with their size.
        runs: the first run behind each row; "" where there is none.
        gain: whether the second column is the paired difference.
    """

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    groups: tuple[tuple[str, int], ...]
    runs: tuple[str, ...]
    gain: bool = False


def ours_text(mean: float, std: float, shown: Shown) -> str:
    """`12.3 ± 0.4`, `12.3` for a single seed, or a dash."""
    return shown.text(mean) + ("" if math.isnan(mean) or math.isnan(std) else f" ± {shown.text(std)}")


def delta_text(row: Row, shown: Shown) -> str:
    """`+1.2 [-0.3, +2.7]`: paired difference and its 95 % interval; nothing where none is taken."""
    if row.delta is None:
        return ""
    text = shown.text(row.delta.mean, sign=True)
    return text if math.isnan(row.delta.low) else f"{text} {shown.span(row.delta.low, row.delta.high)}"


def column_name(key: str) -> str:
    """`AP car` for `AP_car`, `mAP, range 0-20` for `mAP@range:0-20`."""
    return said(key).replace("AP_", "AP ").replace("_", " ")


def footnotes(table: Table) -> list[str]:
    """Notes on published cells, each once; a cell carries the number of its note."""
    return list(dict.fromkeys(note for row in (*table.rows, *table.context) for note in row.notes.values()))


def mark(table: Table, row: Row, key: str) -> str:
    """The footnote mark of a published cell, a raised number, or nothing."""
    return raised(footnotes(table).index(row.notes[key]) + 1) if key in row.notes else ""


def raised(number: int) -> str:
    """A number as superscript."""
    return str(number).translate(_RAISED)


def grids(table: Table) -> list[Grid]:
    """The panels of a table, then its context; a metric gets a paper column only where the paper prints a number."""
    return [*_panels(table), *_context(table)]


def _panels(table: Table) -> list[Grid]:
    spec = table.spec
    with_role = any(row.role for row in table.rows)
    mixed = len({row.protocol for row in table.rows}) > 1 or bool(spec.power)
    out = []
    for panel in dict.fromkeys(column.panel for column in spec.columns):
        keys = [c.key for c in spec.columns if c.panel == panel]
        printed = {k for k in keys if any(not math.isnan(r.values[k].paper) for r in table.rows)}
        # What was gained comes first and the role late: a narrow screen has no room for more than a few columns.
        compared = spec.delta in keys and any(row.delta is not None for row in table.rows)
        gain = metric(str(spec.delta)).shown if compared else None
        head = ["", *[f"Δ {spec.delta} paired [95 % CI]"] * compared]
        for key in keys:
            name = f"{column_name(key)} {metric(key).arrow}".rstrip()
            head += [f"{name} paper", f"{name} ours"] if key in printed else [f"{name} ours"]
        head += [*["role"] * with_role, *["protocol"] * mixed, *_power_head(spec), "n"]
        rows = []
        for row in table.rows:
            cells = [factors.row_name(table, row), *([delta_text(row, gain)] if gain else [])]
            for key in keys:
                value, shown = row.values[key], metric(key).shown
                cells += [shown.text(value.paper) + mark(table, row, key)] * (key in printed)
                cells += [ours_text(value.ours, value.std, shown) + UNLEARNT * (not metric(key).is_learnt(value.ours))]
            rows.append(
                (*cells, *[row.role] * with_role, *[row.protocol] * mixed, *_power_cells(spec, row), str(row.n))
            )
        runs = tuple(row.run.split()[0] for row in table.rows)
        out.append(Grid(panel, tuple(head), tuple(rows), _sizes(table.rows), runs, gain is not None))
    return out


def _power_head(spec: TableConfig) -> list[str]:
    if not spec.power:
        return []
    return ["sd of Δ", *(f"± with {n} seeds" for n in spec.power), "± wanted", "seeds needed"]


def _power_cells(spec: TableConfig, row: Row) -> list[str]:
    if row.power is None:
        return [""] * len(_power_head(spec))
    shown = replace(metric(str(spec.delta)).shown, digits=2)
    found = (row.power.sd, *row.power.half_widths.values(), row.power.wanted)
    return [*map(shown.text, found), str(row.power.needed or "—")]


def _sizes(rows: Sequence[Row]) -> tuple[tuple[str, int], ...]:
    return tuple((name, len(list(members))) for name, members in groupby(row.group for row in rows))


def _context(table: Table) -> list[Grid]:
    """Published rows that no run of ours repeats; only the columns that the paper prints there."""
    keys = [c.key for c in table.spec.columns if any(not math.isnan(row.values[c.key].paper) for row in table.context)]
    if not keys:
        return []
    head = ("", *(f"{column_name(key)} {metric(key).arrow} paper" for key in keys))
    rows = tuple(
        (row.label, *(metric(key).shown.text(row.values[key].paper) + mark(table, row, key) for key in keys))
        for row in table.context
    )
    return [Grid(CONTEXT_TITLE, head, rows, _sizes(table.context), ("",) * len(rows))]


def units_text(table: Table) -> str:
    """`Units: mAP %, mAVE m/s.`, the same for classes and groups."""
    units = {}
    for column in table.spec.columns:
        name = column.key.partition("@")[0]
        units["AP" if name.startswith("AP_") else column_name(name)] = metric(column.key).shown.unit
    return "Units: " + ", ".join(f"{name} {unit}" for name, unit in units.items()) + "."


def protocol_notes(table: Table) -> list[str]:
    """What the protocols of the rows mean, each once."""
    held = [one for row in table.rows for one in row.protocol.split("+")]
    return [f"{WORDING[one][:1].upper()}{WORDING[one][1:]}." for one in PROTOCOLS if one in held]


def remarks(table: Table) -> list[str]:
    """The lines below a table: how to read it, units, notes."""
    printed = any(not math.isnan(v.paper) for row in table.rows for v in row.values.values())
    how = _HOW if printed else _HOW.split(";")[0] + "."
    if len(table.spec.artefacts) > 1:
        how += "".join(f" {text}" for kind, text in _UNSEEDED_HOW.items() if kind in table.spec.artefacts)
    split = "held-out report split" if table.spec.split == "report" else f"{table.spec.split} split"
    source = f" Paper: {table.spec.published_split}." if table.spec.published_split and printed else ""
    marked = [f"{raised(i)} {text}" for i, text in enumerate(footnotes(table), 1)]
    unlearnt = any(not metric(key).is_learnt(value.ours) for row in table.rows for key, value in row.values.items())
    if table.spec.power:
        how = f"{_HOW.split(';')[0]}. {_POWER}"
    said = [*protocol_notes(table), *[_NOT_LEARNT] * unlearnt]
    return [how, f"{units_text(table)} Ours: {split}.{source}", *said, *marked, *factors.remarks(table), *table.notes]


def to_markdown(table: Table) -> str:
    """Markdown with one pipe table per panel and links to the resolved configs."""
    lines = [f"# {table.spec.title}", "", table.spec.caption, ""]
    for grid in grids(table):
        if grid.title:
            lines += [f"**{grid.title}**", ""]
        lines.append("| " + " | ".join(grid.head) + " |")
        lines.append("|" + "|".join([":--"] + ["--:"] * (len(grid.head) - 1)) + "|")
        start = 0
        for group, size in grid.groups:
            if group:
                lines.append(f"| **{group}** |" + " |" * (len(grid.head) - 1))
            lines += ["| " + " | ".join(cells) + " |" for cells in grid.rows[start : start + size]]
            start += size
        lines.append("")
    lines += [*(f"- {text}" for text in remarks(table)), "", "Resolved configs: " + _config_links(table) + "."]
    return "\n".join(lines) + "\n"


def _config_links(table: Table) -> str:
    links = {link: run for row in table.rows for run, link in zip(row.run.split(), row.config.split(), strict=True)}
    return ", ".join(f"[{run}](../{link})" for link, run in links.items())


_LATEX = {"&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}"}
_LATEX |= {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}", "±": r"$\pm$"}
_LATEX |= {
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "Δ": r"$\Delta$",
    "—": "--",
    "→": r"$\to$",
    "†": r"$\dagger$",
    "×": r"$\times$",
}
_LATEX |= {chr(small): rf"\textsuperscript{{{chr(digit)}}}" for digit, small in _RAISED.items()}


def escape(text: str) -> str:
    """Plain text for LaTeX."""
    return re.sub("|".join(re.escape(c) for c in _LATEX), lambda match: _LATEX[match[0]], text)


def to_latex(table: Table) -> str:
    """LaTeX with booktabs; wants `booktabs` and `graphicx` in the preamble."""
    lines = [r"% needs \usepackage{booktabs,graphicx}", r"\begin{table}", r"\centering"]
    lines.append(rf"\caption{{{escape(table.spec.title)}. {escape(table.spec.caption)}}}")
    lines.append(rf"\label{{tab:{table.spec.name}}}")
    for grid in grids(table):
        if grid.title:
            lines.append(rf"\par\smallskip\textit{{{escape(grid.title)}}}\par\smallskip")
        lines += [r"\resizebox{\linewidth}{!}{%", rf"\begin{{tabular}}{{l{'r' * (len(grid.head) - 1)}}}", r"\toprule"]
        lines += [" & ".join(escape(cell) for cell in grid.head) + r" \\", r"\midrule"]
        start = 0
        for i, (group, size) in enumerate(grid.groups):
            if group:
                if i:
                    lines.append(r"\addlinespace")
                lines.append(rf"\multicolumn{{{len(grid.head)}}}{{l}}{{\textit{{{escape(group)}}}}} \\")
            for cells in grid.rows[start : start + size]:
                lines.append(" & ".join(escape(cell) for cell in cells) + r" \\")
            start += size
        lines += [r"\bottomrule", r"\end{tabular}}"]
    lines += [rf"\par\smallskip{{\footnotesize {escape(' '.join(remarks(table)))}}}", r"\end{table}"]
    return "\n".join(lines) + "\n"


def write(table: Table, folder: Path) -> list[Path]:
    """Write `<name>.csv` (the data), `.md` and `.tex` (to read) into a folder and return their paths."""
    out = []
    texts = {"csv": to_csv(to_frame(table)), "md": to_markdown(table), "tex": to_latex(table)}
    for ending, text in texts.items():
        path = folder / f"{table.spec.name}.{ending}"
        write_text(path, text)
        out.append(path)
    return out
