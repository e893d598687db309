"""What the report says about settings: options of the methods and of the detectors as runs used them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from bevkd.config import ModelConfig, to_plain
from bevkd.report.results import Results


def flatten(value: Any, at: str = "") -> dict[str, Any]:
    """Nested dictionaries as `a.b.c -> leaf`; empty dictionaries are leaves."""
    if not isinstance(value, dict) or not value:
        return {at: value}
    out: dict[str, Any] = {}
    for key, inner in value.items():
        out |= flatten(inner, f"{at}.{key}" if at else str(key))
    return out


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
    from bevkd.distill import method_options

    used: dict[str, dict[str, dict[str, Any]]] = {}
    defaults: dict[str, dict[str, Any]] = {}
    for run in names:
        method = results.config(run).row.method
        if method is None:
            continue
        cls, options = method_options(method)
        used.setdefault(method.name, {})[run] = flatten(to_plain(options))
        defaults[method.name] = flatten(to_plain(cls.Config()))
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


def detector_settings(results: Results, names: list[str]) -> tuple[list[str], list[tuple[str, Any, list[Any]]]]:
    """Model names, and the settings that differ from the published defaults: (key, published, value per model).

    A model is shown as its first run without a teacher has it.

    Raises:
        DataError: a resolved config is missing.
    """
    first: dict[str, str] = {}
    for run in sorted(names, key=lambda name: results.row(name).teacher is not None):
        first.setdefault(results.row(run).model, run)
    published = flatten(to_plain(ModelConfig()))
    used = {model: flatten(to_plain(results.config(run).model)) for model, run in first.items()}
    keys = dict.fromkeys([*published, *(key for settings in used.values() for key in settings)])
    rows = []
    for key in keys:
        values = [settings.get(key) for settings in used.values()]
        if any(value != published.get(key) for value in values):
            rows.append((key, published.get(key), values))
    return list(used), rows
