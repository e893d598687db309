"""The content of a metrics file as text tables, in the units of the field: %, m, rad, m/s."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import StringIO
from itertools import product
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from bevkd.report.metrics import KITTI_CLASSES, KITTI_LEVELS, WAYMO_TYPES

_WIDTH = 100
_ERRORS = {
    "trans_err": "ATE m",
    "scale_err": "ASE 1-IoU",
    "orient_err": "AOE rad",
    "vel_err": "AVE m/s",
    "attr_err": "AAE 1-acc",
}
_UNIT_OF = {"range": " (m)"}
_KITTI = {"2d": "2D", "bev": "BEV", "3d": "3D", "aos": "AOS"}
_KITTI_COLUMNS = tuple(product(("R40", "R11"), KITTI_LEVELS))


def shown(metrics: Mapping[str, Any]) -> str:
    """Tables of the metrics of nuScenes, KITTI, Waymo or nuImages, whichever a file holds; "" where it holds none."""
    if "nd_score" in metrics:
        tables = [_nuscenes(metrics), *_groups(metrics.get("breakdowns", {}))]
    elif KITTI_CLASSES[0] in metrics:
        tables = [_kitti(metrics)]
    elif f"OBJECT_TYPE_TYPE_{WAYMO_TYPES[0]}_LEVEL_1" in metrics:
        tables = [_waymo(metrics, "Waymo")]
        if "LET" in metrics:
            tables.append(_waymo(metrics["LET"], "Waymo, longitudinal error tolerant"))
    elif "mAP50" in metrics:
        tables = [_nuimages(metrics)]
    else:
        return ""
    frames = metrics.get("frames")
    return _text(tables, f"{frames} frames\n" if frames is not None else "")


def shown_groups(breakdown: Mapping[str, Any]) -> str:
    """Tables of the groups of a breakdown, one for each kind."""
    return _text(_groups(breakdown))


def _text(tables: Sequence[Table], said: str = "") -> str:
    out = StringIO()
    console = Console(file=out, width=_WIDTH, no_color=True)
    for table in tables:
        console.print(table)
    return "\n".join(line.rstrip() for line in (out.getvalue() + said).splitlines() if line.strip())


def _table(title: str, first: str, columns: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]]) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column(first)
    for name in columns:
        table.add_column(name, justify="right")
    for name, cells in rows:
        table.add_row(name, *cells)
    return table


def _percent(value: Any, factor: float = 100.0) -> str:
    return "-" if not isinstance(value, int | float) or value != value else f"{factor * value:.1f}"


def _error(value: Any) -> str:
    return "-" if not isinstance(value, int | float) or value != value else f"{value:.3f}"


def _nuscenes(metrics: Mapping[str, Any]) -> Table:
    errors = metrics["tp_errors"]
    rows = [
        (name, [_percent(ap), *(_error(metrics["label_tp_errors"][name][key]) for key in _ERRORS)])
        for name, ap in metrics["mean_dist_aps"].items()
    ]
    rows.append(("mean", [_percent(metrics["mean_ap"]), *(_error(errors[key]) for key in _ERRORS)]))
    title = f"nuScenes: mAP {_percent(metrics['mean_ap'])} %, NDS {_percent(metrics['nd_score'])} %"
    return _table(title, "class", ["AP %", *_ERRORS.values()], rows)


def _groups(breakdowns: Mapping[str, Any]) -> list[Table]:
    """A table for each kind of groups."""
    columns = ["mAP %", "present %", "NDS %", *(text.split()[0] for text in _ERRORS.values()), "frames", "boxes"]
    kinds: dict[str, list[tuple[str, list[str]]]] = {}
    for name, group in breakdowns.items():
        kind, _, label = name.partition(":")
        shares = [_percent(group[key]) for key in ("mean_ap", "mean_ap_present", "nd_score")]
        errors = [_error(group["tp_errors"][key]) for key in _ERRORS]
        kinds.setdefault(kind, []).append((label, [*shares, *errors, str(group["frames"]), str(group["boxes"])]))
    return [_table(f"by {kind}{_UNIT_OF.get(kind, '')}", kind, columns, rows) for kind, rows in kinds.items()]


def _kitti(metrics: Mapping[str, Any]) -> Table:
    rows = [
        (f"{name} {label}", [_percent(metrics[name][kind][level][way], 1.0) for way, level in _KITTI_COLUMNS])
        for name, (kind, label) in product((*KITTI_CLASSES, "mean"), _KITTI.items())
    ]
    columns = [f"{way} {level}" for way, level in _KITTI_COLUMNS]
    return _table("KITTI: AP and AOS in %, forty and eleven recall positions", "class", columns, rows)


def _nuimages(metrics: Mapping[str, Any]) -> Table:
    rows = [(name, [_percent(ap), str(metrics["objects"][name])]) for name, ap in metrics["AP50"].items()]
    title = f"nuImages: mAP of 2D boxes at IoU 0.5: {_percent(metrics['mAP50'])} %"
    return _table(title, "class", ["AP %", "objects"], rows)


def _waymo(metrics: Mapping[str, Any], title: str) -> Table:
    kinds = list(metrics[f"OBJECT_TYPE_TYPE_{WAYMO_TYPES[0]}_LEVEL_1"])
    names = {f"OBJECT_TYPE_TYPE_{name}": name.lower() for name in WAYMO_TYPES} | {"MEAN": "mean, no signs"}
    rows = [
        (label, [_percent(metrics[f"{key}_LEVEL_{level}"][kind]) for level, kind in product((1, 2), kinds)])
        for key, label in names.items()
        if f"{key}_LEVEL_1" in metrics
    ]
    columns = [f"L{level} {kind.upper()}" for level, kind in product((1, 2), kinds)]
    return _table(f"{title}: % at levels 1 and 2", "type", columns, rows)
