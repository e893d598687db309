"""A filled table as text: the grid of printed cells, and its Markdown and LaTeX forms."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from bevkd.report.metrics import metric

if TYPE_CHECKING:
    from bevkd.report.tables import Row, Table

_HOW = "Each cell of ours: mean ± sample standard deviation over n trained seeds; — where the paper prints no number."


@dataclass(frozen=True)
class Grid:
    """One printed panel: `head` and `rows` of equal length; `groups` are the row groups in order, with their size."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    groups: tuple[tuple[str, int], ...]


def ours_text(mean: float, std: float, digits: int = 1) -> str:
    """`12.3 ± 0.4`, `12.3` for a single seed, or a dash."""
    if math.isnan(mean):
        return "—"
    return f"{mean:.{digits}f}" + ("" if math.isnan(std) else f" ± {std:.{digits}f}")


def paper_text(value: float, digits: int = 1) -> str:
    """`12.3`, or a dash."""
    return "—" if math.isnan(value) else f"{value:.{digits}f}"


def delta_text(row: Row) -> str:
    """`+1.2 [-0.3, +2.7]`: paired difference and its 95 % interval."""
    if row.delta is None:
        return ""
    text = f"{row.delta.mean:+.1f}"
    return text if math.isnan(row.delta.low) else f"{text} [{row.delta.low:+.1f}, {row.delta.high:+.1f}]"


def column_name(key: str) -> str:
    """`AP car` for `AP_car`."""
    return key.replace("AP_", "AP ").replace("_", " ")


def grids(table: Table) -> list[Grid]:
    """The panels of a table; a metric gets a paper column only where the paper prints at least one number."""
    spec = table.spec
    with_role = any(row.role for row in table.rows)
    out = []
    for panel in dict.fromkeys(column.panel for column in spec.columns):
        keys = [c.key for c in spec.columns if c.panel == panel]
        printed = {k for k in keys if any(not math.isnan(r.values[k].paper) for r in table.rows)}
        head = ["", *(["role"] if with_role else [])]
        for key in keys:
            name = f"{column_name(key)} {metric(key).arrow}"
            head += [f"{name} paper", f"{name} ours"] if key in printed else [f"{name} ours"]
        show_delta = spec.delta in keys and any(row.delta is not None for row in table.rows)
        head += [f"Δ {spec.delta} paired [95 % CI]"] * show_delta + ["n"]
        rows = []
        for row in table.rows:
            cells = [row.label, *([row.role] if with_role else [])]
            for key in keys:
                value, digits = row.values[key], metric(key).digits
                cells += [paper_text(value.paper, digits)] * (key in printed)
                cells += [ours_text(value.ours, value.std, digits)]
            rows.append((*cells, *([delta_text(row)] if show_delta else []), str(row.n)))
        sizes = tuple((name, len(list(members))) for name, members in groupby(row.group for row in table.rows))
        out.append(Grid(panel, tuple(head), tuple(rows), sizes))
    return out


def units_text(table: Table) -> str:
    """`Units: mAP %, mAVE x100 (m/s).`."""
    units = {
        column_name(c.key) if not c.key.startswith("AP_") else "AP": metric(c.key).unit for c in table.spec.columns
    }
    return "Units: " + ", ".join(f"{key} {unit}" for key, unit in units.items()) + "."


def remarks(table: Table) -> list[str]:
    """The lines below a table: how to read it, units, notes."""
    printed = any(not math.isnan(v.paper) for row in table.rows for v in row.values.values())
    how = _HOW if printed else _HOW.split(";")[0] + "."
    split = {"report": "held-out report split", "tune": "tune split"}[table.spec.split]
    source = f" Paper: {table.spec.published_split}." if table.spec.published_split and printed else ""
    return [how, f"{units_text(table)} Ours: {split}.{source}", *table.notes]


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
_LATEX |= {"↑": r"$\uparrow$", "↓": r"$\downarrow$", "Δ": r"$\Delta$", "—": "--", "→": r"$\to$", "×": r"$\times$"}


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
