"""Metrics as the papers print them (percent, errors x100): where each stands in the file that holds it.

CSV files, records and the ledger hold these printed values; whoever shows one to a reader shows it in the field's own
unit (m, rad, m/s) by `shown`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, Literal, TypeAlias

from bevkd.classes import CLASSES
from bevkd.errors import ConfigError, DataError, nearest

# Files that numbers are read from: `metrics_<split>.json` and `breakdown_<split>.json` (the same metrics for groups of
# objects or frames) of a run and seed; metrics of its snapshots; what `bevkd response`, `bevkd gates`, `bevkd matches`
# and `bevkd attention` found of them; what `bevkd bench` found of a run; what `bevkd profile` found of its network; the
# training log.
Source: TypeAlias = Literal[
    "metrics", "breakdown", "snapshots", "response", "gates", "matches", "attention", "cost", "profile", "log"
]

_HUNDREDFOLD = "x100 ("
VERSUS = " vs "  # between two groups
TRAINING = "training:"  # a group by the part of the schedule, as in mAP@training:1/6: a snapshot, or the model itself
_ERRORS = {
    "mATE": ("trans_err", "x100 (m)"),
    "mASE": ("scale_err", "x100 (1 - IoU)"),
    "mAOE": ("orient_err", "x100 (rad)"),
    "mAVE": ("vel_err", "x100 (m/s)"),
    "mAAE": ("attr_err", "x100 (1 - acc)"),
}


# As in `bevkd.eval.kitti` and `bevkd.eval.waymo`, which take seconds to import.
KITTI_CLASSES, KITTI_LEVELS = ("Car", "Pedestrian", "Cyclist"), ("easy", "moderate", "hard")
WAYMO_TYPES = ("VEHICLE", "PEDESTRIAN", "SIGN", "CYCLIST")


@dataclass(frozen=True)
class Shown:
    """How a printed value is shown: its unit, the factor to it, and how many digits stand after the point."""

    unit: str
    factor: float
    digits: int

    def text(self, value: float, sign: bool = False) -> str:
        """A printed value (or difference of such) as it is shown, or a dash where there is none."""
        return "—" if math.isnan(value) else f"{value * self.factor:{'+' if sign else ''}.{self.digits}f}"

    def span(self, low: float, high: float, sign: bool = True) -> str:
        """An interval as it is shown, or a dash."""
        return "—" if math.isnan(low) else f"[{self.text(low, sign)}, {self.text(high, sign)}]"


@dataclass(frozen=True)
class Metric:
    """One column of a table.

    Attributes:
        key: name in configs and CSV files. nuScenes: `mAP`, `NDS`, `mATE` ..., `translation_lead`, `AP_<class>`.
            KITTI, forty recall positions: `<2d|bev|3d|aos>_<class|mean>_<difficulty>`. Waymo:
            `L<level>_<AP|APH>_<type>`, and the means of three types at level 2 with longitudinal error tolerance
            `LET_<AP|APH|APL>`. nuImages: `mAP50`. Any of
            these for a group of objects or frames: `<key>@<group>`, such as `mAP@range:0-20` or `NDS@lighting:night`;
            `mAP@range:0-20 vs range:20-30` is by how much it is higher in one group than in another;
            of groups alone: `mAP_present` (mean over the classes that the group has), `frames`, `boxes`.
            Costs: see `_costs`.
            Of a network: `params`, `macs`, `latency`. Of the response: `<border|background>_heat`, `false_positives`.
            Of gates: `<boxes|roads>_<area|ungated|gated|gain>`. Of attention: `attention_<entropy|near|centre_area>`.
            Of two runs in the same frames, the other one being that which a row is compared with: `objects_gained`,
            `objects_lost`, `false_rejected`, `false_added`, `net_gain`, see `bevkd.report.events`, and
            `attention_like_<near|far>`, see `bevkd.eval.attention`.
            Of the training log: `det_loss[_mean]`; `clipped`, `clip_scale`, `kd_share`, see `bevkd.report.course`.
        unit: unit of the printed value.
        higher_is_better: direction; None: neither way.
        field: path inside the metrics file.
        factor: from the file's value to the printed one.
        digits: how many are printed after the point.
        file: which kind of file holds it; values of costs, of roads and `mAP_present` may be null there.
        unlearnt: printed value from which on the score of an error is 0 (the devkit clips it); none: never.
        less: paths of values that are taken from that of `field`.
        pairs: what it is of two runs: by how much they differ, or how alike they are; none: it is of one run.
    """

    key: str
    unit: str
    higher_is_better: bool | None
    field: tuple[str, ...]
    factor: float = 100.0
    file: Source = "metrics"
    digits: int = 1
    unlearnt: float | None = None
    less: tuple[tuple[str, ...], ...] = ()
    pairs: Literal["difference", "likeness"] | None = None

    def is_learnt(self, value: float) -> bool:
        """Whether a printed value scores anything; also where there is none."""
        return self.unlearnt is None or not value >= self.unlearnt

    @property
    def arrow(self) -> str:
        """Direction sign as the papers print it."""
        return {True: "↑", False: "↓", None: ""}[self.higher_is_better]

    @property
    def shown(self) -> Shown:
        """How values are shown to a reader: errors in their own units, all else as printed."""
        if self.unit.startswith(_HUNDREDFOLD):
            return Shown(self.unit.removeprefix(_HUNDREDFOLD).removesuffix(")"), 0.01, self.digits + 2)
        return Shown(self.unit, 1.0, self.digits)


def _known() -> dict[str, Metric]:
    table = {
        "mAP": Metric("mAP", "%", True, ("mean_ap",)),
        "NDS": Metric("NDS", "%", True, ("nd_score",)),
        "mAP50": Metric("mAP50", "%", True, ("mAP50",)),
    }
    table |= {
        key: Metric(key, unit, False, ("tp_errors", name), unlearnt=100.0) for key, (name, unit) in _ERRORS.items()
    }
    # The score of translation less those of the four other errors: it grows by as much as translation gains over them.
    first, *rest = (("tp_scores", name) for name, _ in _ERRORS.values())
    table["translation_lead"] = Metric("translation_lead", "points", True, first, less=tuple(rest))
    table |= {f"AP_{name}": Metric(f"AP_{name}", "%", True, ("mean_dist_aps", name)) for name in CLASSES}
    for kind, name, level in product(("2d", "bev", "3d", "aos"), (*KITTI_CLASSES, "mean"), KITTI_LEVELS):
        key = f"{kind}_{name}_{level}"
        table[key] = Metric(key, "%", True, (name, kind, level, "R40"), factor=1.0)
    for number, kind, name in product((1, 2), ("AP", "APH"), WAYMO_TYPES):
        key = f"L{number}_{kind}_{name.lower()}"
        table[key] = Metric(key, "%", True, (f"OBJECT_TYPE_TYPE_{name}_LEVEL_{number}", kind.lower()))
    for kind in ("AP", "APH", "APL"):
        table[f"LET_{kind}"] = Metric(f"LET_{kind}", "%", True, ("LET", "MEAN_LEVEL_2", kind.lower()))
    return table


def _costs() -> dict[str, Metric]:
    """`<loss_time|step_time|memory>[_increase]_<live|cached>` of a training step."""
    out = {}
    for way in ("live", "cached"):
        for name, unit, digits, field in (
            ("loss_time", "s", 3, "loss_s"),
            ("loss_time_increase", "%", 0, "loss_increase"),
            ("step_time", "s", 3, "step_s"),
            ("step_time_increase", "%", 0, "step_increase"),
            ("memory", "GiB", 2, "memory_gib"),
            ("memory_increase", "GiB", 2, "memory_increase_gib"),
        ):
            key = f"{name}_{way}"
            out[key] = Metric(key, unit, False, (way, field), factor=1.0, file="cost", digits=digits)
    return out


# The detection loss, distillation left out: its mean over the last tenth of the schedule, and over all of it.
_LOSSES = {
    key: Metric(key, "training loss", False, ("det", part), factor=1.0, file="log", digits=2)
    for key, part in (("det_loss", "end"), ("det_loss_mean", "all"))
}
# How a training went, see `bevkd.report.course`.
_COURSE = {
    key: Metric(key, unit, None, ("course", key), factor=factor, file="log", digits=digits)
    for key, unit, factor, digits in (
        ("clipped", "% of steps", 100.0, 0),
        ("clip_scale", "of the gradient", 1.0, 2),
        ("kd_share", "% of the detection loss", 100.0, 0),
    )
}
# Mean of the best class score around and away from objects, relative to that on objects; and what share of the
# best-scored detections, as many as there are annotations, is false.
_RESPONSE = {
    key: Metric(key, unit, False, (field,), file="response")
    for key, unit, field in (
        ("border_heat", "% of objects", "border_ratio"),
        ("background_heat", "% of objects", "background_ratio"),
        ("false_positives", "% of detections", "false_share"),
    )
}
# Size and cost of the row's model for one frame; papers call multiply-accumulates of dense 2D layers FLOPs.
_PROFILE = {
    key: Metric(key, unit, False, (field,), factor=factor, file="profile", digits=digits)
    for key, unit, field, factor, digits in (
        ("params", "M", "params", 1e-6, 2),
        ("macs", "G", "macs_dense2d", 1e-9, 2),
        ("latency", "ms", "latency_ms", 1.0, 1),
    )
}
# Of groups alone: how well the classes that a group has are found, and how many frames and annotations it has.
_GROUPS = {
    "mAP_present": Metric("mAP_present", "%", True, ("mean_ap_present",), file="breakdown"),
    "frames": Metric("frames", "number", None, ("frames",), factor=1.0, file="breakdown", digits=0),
    "boxes": Metric("boxes", "number", None, ("boxes",), factor=1.0, file="breakdown", digits=0),
}
# Which share of the camera map lies in objects and on roads before and after its gate, and which of the area does.
_GATES = {
    f"{place}_{name}": Metric(f"{place}_{name}", unit, better, field, file="gates", less=less)
    for place in ("boxes", "roads")
    for name, unit, better, field, less in (
        ("area", "% of the area", None, ("area", place), ()),
        ("ungated", "% of the map", None, ("camera", "ungated", place), ()),
        ("gated", "% of the map", True, ("camera", "gated", place), ()),
        ("gain", "points", True, ("camera", "gated", place), (("camera", "ungated", place),)),
    )
}
# Of two runs in the same frames, by what `bevkd matches` wrote of each: counted by `bevkd.report.events`.
_EVENTS = {
    key: Metric(key, unit, better, field, factor=1.0, file="matches", less=less, pairs="difference")
    for key, unit, better, field, less in (
        *((key, "number", None, (key,), ()) for key in ("objects_gained", "objects_lost")),
        *((key, "number", None, (key,), ()) for key in ("false_rejected", "false_added")),
        ("net_gain", "objects", True, ("objects_gained",), (("objects_lost",),)),
    )
}
# How sharp the attention of a run is, which share of it lies at the vehicle, and which share of the area does; and how
# alike that of two runs is, at the vehicle and far away.
_ATTENTION = {
    key: Metric(key, unit, better, (key.removeprefix("attention_"),), file="attention")
    for key, unit, better in (
        ("attention_entropy", "% of a uniform map", False),
        ("attention_near", "% of attention", False),
        ("attention_centre_area", "% of the area", None),
    )
} | {
    key: Metric(key, "correlation", True, (place,), factor=1.0, file="attention", digits=2, pairs="likeness")
    for key, place in (("attention_like_near", "near"), ("attention_like_far", "far"))
}
METRICS: Mapping[str, Metric] = (
    _known() | _GROUPS | _costs() | _LOSSES | _COURSE | _RESPONSE | _GATES | _ATTENTION | _EVENTS | _PROFILE
)


def metric(key: str) -> Metric:
    """The metric called `key`.

    Raises:
        ConfigError: there is none, or it is not one that groups have.
    """
    name, _, group = key.partition("@")
    if name not in METRICS:
        raise ConfigError(f"unknown metric {key!r}{nearest(name, METRICS)}; known: {', '.join(METRICS)}")
    known = METRICS[name]
    if "@" not in key and known.file != "breakdown":
        return known
    if "@" not in key:
        raise ConfigError(f"metric {key!r} is of groups alone, as in {key}@range:0-20")
    if known.file not in ("metrics", "breakdown") or not group:
        raise ConfigError(f"metric {key!r}: only metrics of detections are given for groups, as in mAP@range:0-20")
    group, versus, other = group.partition(VERSUS)
    if versus and (not other or ":" not in other or VERSUS in other):
        raise ConfigError(f"metric {key!r}: two groups are compared as in mAP@range:0-20{VERSUS}range:20-30")
    parts = [one.startswith(TRAINING) for one in (group, *([other] if versus else []))]
    if any(parts) and not (all(parts) and known.file == "metrics"):
        raise ConfigError(f"metric {key!r}: a part of the training has the metrics of a run, and compares with another")
    source: Source = "snapshots" if any(parts) else "breakdown"
    if versus and known.less:
        raise ConfigError(f"metric {key!r}: {name} is a difference already, and not compared between groups")
    less = ((other, *known.field),) if versus else tuple((group, *path) for path in known.less)
    unlearnt = None if versus else known.unlearnt
    return replace(known, key=key, field=(group, *known.field), file=source, less=less, unlearnt=unlearnt)


def of_groups_alone(key: str) -> bool:
    """Whether a metric is one that only groups have: `mAP_present`, `frames` and `boxes`."""
    return key.partition("@")[0] in _GROUPS


def of_pairs(keys: Iterable[str]) -> bool:
    """Whether a metric among them is of pairs of runs."""
    return any(metric(key).pairs is not None for key in keys)


def said(key: str) -> str:
    """A metric in a sentence: `mAP` for itself, `mAP, range 0-20` for `mAP@range:0-20`."""
    name, _, group = key.partition("@")
    return name + (f", {group.replace(':', ' ')}" if group else "")


def value_of(summary: Any, key: str, file: Path) -> float:
    """One metric, in printed units, of a parsed metrics summary.

    Raises:
        DataError: the file lacks the field, or it is not a finite number.
    """
    known = metric(key)
    optional = known.file == "cost" or known.field[-1] in ("mean_ap_present", "roads")
    value = _number(summary, known.field, optional, file)
    value -= sum(_number(summary, path, optional, file) for path in known.less)
    return known.factor * value


def _number(summary: Any, field: tuple[str, ...], optional: bool, file: Path) -> float:
    value = summary
    for name in field:
        if not isinstance(value, dict) or name not in value:
            raise DataError("metrics file lacks a field", file=file, field=".".join(field))
        value = value[name]
    if value is None and optional:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise DataError(f"metric is not a finite number: {value!r}", file=file, field=".".join(field))
    return float(value)
