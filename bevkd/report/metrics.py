"""Metrics as the papers print them (percent, errors x100), read from the metrics files that runs leave behind."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any, Literal

import yaml

from bevkd.classes import CLASSES
from bevkd.config import RowConfig, RunConfig, run_dir, stored_run
from bevkd.errors import ConfigError, DataError, nearest
from bevkd.io import read_json

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
class Metric:
    """One column of a table.

    Attributes:
        key: name in configs and CSV files. nuScenes: `mAP`, `NDS`, `mATE` ..., `AP_<class>`. KITTI, forty recall
            positions: `<2d|bev|3d|aos>_<class|mean>_<difficulty>`. Waymo: `L<level>_<AP|APH>_<type>`, and the means of
            three types at level 2 with longitudinal error tolerance `LET_<AP|APH|APL>`. Costs: see `_costs`. Of the
            response: `<border|background>_heat`, `false_positives`. Of the training log: `det_loss[_mean]`.
        unit: unit of the printed value.
        higher_is_better: direction.
        field: path inside the metrics file.
        factor: from the file's value to the printed one.
        digits: how many are printed after the point.
        file: `metrics_<split>.json`; what `bevkd response` or `bevkd bench` found, where values of the latter may be
            null; or the training log.
    """

    key: str
    unit: str
    higher_is_better: bool
    field: tuple[str, ...]
    factor: float = 100.0
    file: Literal["metrics", "response", "cost", "log"] = "metrics"
    digits: int = 1

    @property
    def arrow(self) -> str:
        """Direction sign as the papers print it."""
        return "↑" if self.higher_is_better else "↓"


def _known() -> dict[str, Metric]:
    table = {
        "mAP": Metric("mAP", "%", True, ("mean_ap",)),
        "NDS": Metric("NDS", "%", True, ("nd_score",)),
    }
    table |= {key: Metric(key, unit, False, ("tp_errors", name)) for key, (name, unit) in _ERRORS.items()}
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
METRICS: Mapping[str, Metric] = _known() | _costs() | _LOSSES | _RESPONSE


def metric(key: str) -> Metric:
    """The metric called `key`.

    Raises:
        ConfigError: there is none.
    """
    if key not in METRICS:
        raise ConfigError(f"unknown metric {key!r}{nearest(key, METRICS)}; known: {', '.join(METRICS)}")
    return METRICS[key]


def value_of(summary: Any, key: str, file: Path) -> float:
    """One metric, in printed units, of a parsed metrics summary.

    Raises:
        DataError: the file lacks the field, or it is not a finite number.
    """
    value = summary
    field, factor, optional = metric(key).field, metric(key).factor, metric(key).file == "cost"
    for name in field:
        if not isinstance(value, dict) or name not in value:
            raise DataError("metrics file lacks a field", file=file, field=".".join(field))
        value = value[name]
    if value is None and optional:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise DataError(f"metric is not a finite number: {value!r}", file=file, field=".".join(field))
    return factor * float(value)


def results_dir(scale: str, runs: Path = Path("results/runs")) -> Path:
    """Folder of tables, figures, ledger and report: the one above `runs` at scale sim, a sub-folder of it otherwise."""
    return runs.parent if scale == "sim" else runs.parent / scale


def cost_file(run: str, scale: str, runs: Path) -> Path:
    """What `bevkd bench` found of a run; not in the run's folder, which is finished when its training is."""
    return results_dir(scale, runs) / "costs" / f"{run}.json"


def response_file(run: str, scale: str, seed: int, split: str, runs: Path) -> Path:
    """What `bevkd response` found of a run; as with costs, not in the run's folder."""
    return results_dir(scale, runs) / "responses" / run / f"seed{seed}" / f"{split}.json"


@dataclass(frozen=True)
class Runs:
    """The finished runs of one scale.

    Attributes:
        root: folder of all runs, `results/runs`.
        scale: scale name.
        rows: experiment rows by run id; they say which seeds exist.
    """

    root: Path
    scale: str
    rows: Mapping[str, RowConfig]

    def row(self, run: str) -> RowConfig:
        """The experiment row of a run.

        Raises:
            ConfigError: there is none.
        """
        if run not in self.rows:
            raise ConfigError(f"unknown run {run!r}{nearest(run, self.rows)}")
        return self.rows[run]

    def folder(self, run: str, seed: int) -> Path:
        """Where a run keeps its files."""
        return run_dir(run, self.scale, seed, self.root)

    def config_file(self, run: str) -> Path:
        """Resolved config of the first seed."""
        return self.folder(run, self.row(run).seeds[0]) / "config.yaml"

    def config(self, run: str) -> RunConfig:
        """Resolved config of the first seed.

        Raises:
            DataError: the run has not been trained, or its config does not fit this version.
        """
        file = self.config_file(run)
        if not file.exists():
            raise DataError(f"run {run!r} has not been trained: its resolved config is missing", file=file)
        return _read_config(file, file.stat().st_mtime_ns)

    def metrics_file(self, run: str, seed: int, split: str, kind: Literal["metrics", "response"] = "metrics") -> Path:
        """The file of metrics, or of the response, for the `report` or the `tune` split of the run's data set."""
        data = self.config(run).data
        name = {"report": data.report_split, "tune": data.tune_split}[split]
        if kind == "response":
            return response_file(run, self.scale, seed, name, self.root)
        return self.folder(run, seed) / f"metrics_{name}.json"

    def values(self, run: str, split: str, keys: Iterable[str]) -> dict[int, dict[str, float]]:
        """Metrics per seed, in printed units: `{seed: {key: value}}`; costs per repeat of the benchmark.

        Raises:
            DataError: a run has no metrics file; the message names both.
        """
        keys = list(keys)
        kinds = {metric(key).file for key in keys}
        if kinds == {"log"}:
            return self._losses(run, keys)
        if kinds == {"cost"}:
            return self._costs(run, keys)
        kind: Literal["metrics", "response"] = "response" if kinds == {"response"} else "metrics"
        out = {}
        for seed in self.row(run).seeds:
            file = self.metrics_file(run, seed, split, kind)
            if not file.exists():
                raise DataError(f"run {run!r} has no {kind} for seed {seed} at scale {self.scale!r}", file=file)
            summary = read_json(file)
            out[seed] = {key: value_of(summary, key, file) for key in keys}
        return out

    def _costs(self, run: str, keys: list[str]) -> dict[int, dict[str, float]]:
        """What training costs, per repeat of the benchmark."""
        file = cost_file(run, self.scale, self.root)
        if not file.exists():
            raise DataError(f"run {run!r} has no costs at scale {self.scale!r}", file=file)
        content = read_json(file)
        repeats = content.get("repeats") if isinstance(content, dict) else None
        if not isinstance(repeats, list) or not repeats:
            raise DataError("not what a benchmark writes", file=file, field="repeats")
        return {k: {key: value_of(one, key, file) for key in keys} for k, one in enumerate(repeats)}

    def _losses(self, run: str, keys: list[str]) -> dict[int, dict[str, float]]:
        """Mean of logged losses over the schedule or its last tenth, per seed."""
        from bevkd.report.logs import curve

        out: dict[int, dict[str, float]] = {}
        loss = self.config(run).model.loss
        for seed in self.row(run).seeds:
            out[seed] = {}
            for key in keys:
                name, part = metric(key).field
                steps, values = curve(self.folder(run, seed) / "log.jsonl", name, loss)
                shown = values if part == "all" else values[steps > 0.9 * steps[-1]]
                out[seed][key] = float(shown.mean())
        return out


@lru_cache(maxsize=512)
def _read_config(file: Path, changed_ns: int) -> RunConfig:
    """The config of a file; `changed_ns` keeps a rewritten file from being mistaken for the one read before."""
    try:
        plain = yaml.safe_load(file.read_text(encoding="utf-8"))
        return stored_run(plain, str(file))
    except (yaml.YAMLError, ConfigError) as error:
        raise DataError(f"resolved config cannot be read: {error}", file=file) from error
