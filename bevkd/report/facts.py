"""What the report says about settings: options of the methods and of the detectors as runs used them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

from bevkd.config import ModelConfig, to_plain
from bevkd.report.results import Results

ABSENT = "—"  # a model has no such stage, or a paper no such setting


def flatten(value: Any, at: str = "") -> dict[str, Any]:
    """Nested dictionaries as `a.b.c -> leaf`; empty dictionaries are leaves."""
    if not isinstance(value, dict) or not value:
        return {at: value}
    out: dict[str, Any] = {}
    for key, inner in value.items():
        out |= flatten(inner, f"{at}.{key}" if at else str(key))
    return out


@dataclass(frozen=True)
class Setting:
    """A setting of detectors: what is published (several values where stages differ), and that of each model."""

    key: str
    published: tuple[Any, ...]
    used: tuple[Any, ...]


@dataclass(frozen=True)
class Switch:
    """One option: its default, what most runs used, and the runs that differ (run id -> value)."""

    key: str
    default: Any
    usual: Any
    exceptions: dict[str, Any]


def method_switches(results: Results, names: list[str]) -> dict[str, list[Switch]]:
    """For each distillation method every option as it was used.

    Raises:
        DataError: a resolved config is missing.
    """
    from bevkd.distill import method_settings

    used: dict[str, dict[str, dict[str, Any]]] = {}
    defaults: dict[str, dict[str, Any]] = {}
    for run in names:
        method = results.config(run).row.method
        if method is None:
            continue
        options = method_settings(method)
        used.setdefault(method.kind, {})[run] = flatten(to_plain(options))
        defaults[method.kind] = flatten(to_plain(type(options)()))
    out = {}
    for name, table in sorted(used.items()):
        switches = []
        for key in dict.fromkeys(k for options in table.values() for k in options):
            values = {run: options.get(key) for run, options in table.items()}
            usual = Counter(map(repr, values.values())).most_common(1)[0][0]
            typical = next(v for v in values.values() if repr(v) == usual)
            odd = {run: v for run, v in values.items() if repr(v) != usual}
            switches.append(Switch(key, defaults[name].get(key), typical, odd))
        out[name] = switches
    return out


def as_published(used: Any) -> Any:
    """Settings (a dataclass) with the same stages, each with the settings of its paper."""
    stages = {field.name: getattr(used, field.name) for field in fields(used)}
    return replace(type(used)(), **{name: as_published(value) for name, value in stages.items() if is_dataclass(value)})


def detector_settings(results: Results, names: list[str]) -> tuple[list[str], list[Setting]]:
    """Model names, and the settings that differ from the published defaults of their stage.

    A model is shown as its first run without a teacher has it.

    Raises:
        DataError: a resolved config is missing.
    """
    first: dict[str, str] = {}
    for run in sorted(names, key=lambda name: results.row(name).teacher is not None):
        first.setdefault(results.row(run).model, run)
    used, published = {}, {}
    for model, run in first.items():
        config = results.config(run).model
        used[model] = flatten(to_plain(config))
        # Which stage is chosen is a setting, too.
        default = flatten(to_plain(ModelConfig(sensors=config.sensors)))
        kinds = {key: kind for key, kind in default.items() if key.endswith(".kind") and key in used[model]}
        published[model] = flatten(to_plain(as_published(config))) | kinds | {"sensors": used[model]["sensors"]}
    out = []
    for key in dict.fromkeys(key for settings in used.values() for key in settings):
        known = {m: published[m].get(key, ABSENT) for m in used if used[m].get(key, ABSENT) not in (None, ABSENT)}
        if any(used[model][key] != value for model, value in known.items()):
            usual = {repr(value): value for value in known.values()}
            out.append(Setting(key, tuple(usual.values()), tuple(used[model].get(key, ABSENT) for model in used)))
    return list(used), out
