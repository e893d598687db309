"""What the report says about settings: options of the methods and of the detectors as runs used them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, fields, is_dataclass
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
    """A setting of detectors: what is published (several values where stages differ), and that of each detector."""

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


def _published(used: Any, usual: Any, own: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Published settings, and those expected where nothing is set, as nested dictionaries with the fields of `used`.

    Args:
        used: settings (a dataclass) of a network, or of a part of it.
        usual: what stands in its place by default, as published; something else where another kind is chosen.
        own: the defaults of the kind that is used.
    """
    same = type(usual) is type(used)
    published: dict[str, Any] = {}
    expected: dict[str, Any] = {}
    for field in fields(used):
        name, value, default = field.name, getattr(used, field.name), getattr(own, field.name)
        known = getattr(usual, name, ABSENT) if same or name == "kind" else ABSENT
        if is_dataclass(value):
            kind: Any = type(value)
            default = default if type(default) is kind else kind()
            published[name], expected[name] = _published(value, known, default)
        else:
            # Which kind is chosen is itself compared with the published one.
            published[name], expected[name] = known, default if known is ABSENT else known
    return published, expected


def detector_settings(results: Results, names: list[str]) -> tuple[list[tuple[str, str]], list[Setting]]:
    """Models with their data sets, and the settings of these that differ from the published ones.

    A stage of another kind than the published one has no published settings; those that are not the defaults of its
    kind are listed. A model is shown as its first run on a data set without a teacher has it.

    Raises:
        DataError: a resolved config is missing.
    """
    first: dict[tuple[str, str], str] = {}
    for run in sorted(names, key=lambda name: results.row(name).teacher is not None):
        first.setdefault((results.row(run).model, results.row(run).dataset), run)
    used, published, expected = {}, {}, {}
    for place, run in first.items():
        config = results.config(run).model
        usual = ModelConfig(sensors=config.sensors)
        used[place] = flatten(to_plain(config))
        published[place], expected[place] = map(_plain_and_flat, _published(config, usual, usual))
    out = []
    for key in dict.fromkeys(key for settings in used.values() for key in settings):
        having = [place for place in used if key in used[place]]
        if any(used[place][key] != expected[place].get(key, ABSENT) for place in having):
            known = {repr(value): value for value in (published[place].get(key, ABSENT) for place in having)}
            out.append(Setting(key, tuple(known.values()), tuple(used[place].get(key, ABSENT) for place in used)))
    return list(used), out


def _plain_and_flat(settings: dict[str, Any]) -> dict[str, Any]:
    """Nested settings by flat key; tuples are lists, as in plain configs."""
    return {key: _listed(value) for key, value in flatten(settings).items()}


def _listed(value: Any) -> Any:
    return [_listed(item) for item in value] if isinstance(value, list | tuple) else value
