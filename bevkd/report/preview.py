"""The first look of a paper: baseline, teacher and distilled student of its first headline comparison, one seed each.

A paper's tables.yaml may have a table of target `preview` of its own; otherwise both it and the picture of detections
are derived here, as the plain data that `bevkd.report.spec` parses.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from bevkd.config import Paper, RowConfig
from bevkd.config.comparisons import Comparison, pool
from bevkd.config.papers import stand_ins_at
from bevkd.config.plain import read_mapping
from bevkd.report.comparisons import stand_ins

_BESIDE = {"mAP": ("NDS",)}  # what is shown beside a metric
NOTE = "Preview: n = 1, a single seed, which shows that everything runs and nothing about the method."


def name_of(paper: Paper) -> str:
    """What derived table and figure of a paper are called."""
    return f"{paper.name}_preview"


def first_comparison(paper: Paper) -> tuple[Comparison, str] | None:
    """The first headline comparison of a paper with its metric; None where nothing that `all` trains is distilled.

    Without headlines in page.yaml it is the first comparison that has controls. Headlines that are no claims are for
    `bevkd.report.pages` to refuse.
    """
    content = read_mapping(paper.file("page"))
    headline = content.get("headline")
    chosen = list(headline) if isinstance(headline, Mapping) else []
    known = {
        f"{item.name}{ending}": (item, metric)
        for item in paper.comparisons.values()
        for ending, metric in item.metrics.items()
        if item.target == "all" and item.test == "greater" and item.controls
    }
    return next((known[name] for name in chosen or known if name in known), None)


def table(paper: Paper, rows: Mapping[str, RowConfig], scale: str | None) -> dict[str, Any] | None:
    """The derived table; None where there is nothing to show.

    Args:
        paper: whose first headline comparison it is of; of pools the first run.
        rows: all rows, for the teacher and what is said of the runs.
        scale: where other runs may stand for those of the comparison.
    """
    found = first_comparison(paper)
    if found is None:
        return None
    item, metric = found
    arm, baseline = pool(item.arm)[0], pool(item.baseline)[0]
    teacher = pool(item.teacher)[0] if item.teacher else rows[arm].teacher if arm in rows else None
    shown = []
    for role, run in (("baseline", baseline), ("teacher", teacher), ("distilled", arm)):
        if run is not None:
            label = rows[run].doc or run if run in rows else run
            shown.append({"label": label, "run": run, "role": role, **({"against": baseline} if run == arm else {})})
    return {
        "target": "preview",
        "title": f"{title_of(paper)}, a first look",
        "caption": "The first headline comparison, one seed.",
        "columns": list(dict.fromkeys([metric, *_BESIDE.get(metric, ())])),
        "rows": [stand_ins(row, stand_ins_at(scale, item.at)) for row in shown],
        "delta": metric,
    }


def figure(paper: Paper, shown: Iterable[Any]) -> dict[str, Any]:
    """The picture of what the runs of a table of the preview detect in one frame, the teacher first.

    Args:
        paper: whose table it is.
        shown: the rows of the table, with `label`, `run` and `role`.
    """
    rows = sorted(shown, key=lambda row: row.role != "teacher")
    return {
        "kind": "detections",
        "target": "preview",
        "title": f"{title_of(paper)}, detections",
        "caption": "One seed, the fullest frame; of each as many boxes as are annotated, best scores first.",
        "columns": {row.label: pool(row.run)[0] for row in rows},
        "frames": 1,
    }


def title_of(paper: Paper) -> str:
    """The heading of a paper, as its page.yaml has it."""
    return str(read_mapping(paper.file("page")).get("title", paper.name.replace("_", " ").capitalize()))
