"""What makes a run that run: the settings that its network, method and data really read, where they are no defaults.

A setting that is new in the code, with a default, is so no other run. A default that *changes* is one: the class that
holds it counts up its `edition` (a class variable, 1 if unsaid), which is part of the identity of every run that reads
the class. A golden file in the tests holds all defaults and editions: neither is changed without the other.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from pydantic.fields import FieldInfo

from bevkd.config.compose import load_run
from bevkd.config.marks import ReadFor, Volatile
from bevkd.config.places import ConfigTree, config_tree
from bevkd.config.plain import parse
from bevkd.config.schema import ENCODERS, RunConfig
from bevkd.config.upgrade import upgrade
from bevkd.data.reads import reads_of
from bevkd.errors import ConfigError
from bevkd.io import digest
from bevkd.registry import settings

_ABSENT = object()


def identity(run: RunConfig) -> dict[str, Any]:
    """The settings that determine the result of a run, as JSON-like data without what is default or not read."""
    found: dict[str, Any] = _read(run, _sensors(run))
    if run.row.teacher is not None:  # the training that this seed learns from, in whatever way the row says so
        found["row"].pop("teacher_seed", None)
        found["row"] |= {"teacher_seed": run.teacher_seed} if run.teacher_seed else {}
    method = run.row.method
    if method is not None:
        options = parse_options(method.kind, method.options)
        found["row"]["method"] = _read(method, frozenset()) | {"options": _read(options, frozenset())}
    # Augmentation is the student's, also that of what its teacher alone looks at.
    if run.row.teacher is not None and (augment := _read(run.data.augment, _taught(run))):
        found.setdefault("data", {})["augment"] = augment
    return found


def identity_digest(run: RunConfig) -> str:
    """Short digest of `identity`."""
    return digest(identity(run))


def stored_run(plain: Any, where: str) -> RunConfig:
    """A configuration that some version of the code has stored, as the settings of today's.

    Raises:
        ConfigError: it is none; the message names `where` it was found.
    """
    if not isinstance(plain, dict):
        raise ConfigError(f"{where}: not a configuration")
    return parse(RunConfig, upgrade(plain), where)


def settings_read(value: Any, sensors: Iterable[str]) -> dict[str, Any]:
    """What of a settings dataclass counts for a network that looks at some sensors, without what is default."""
    found: dict[str, Any] = _read(value, frozenset(sensors))
    return found


def parse_options(kind: str, options: dict[str, Any]) -> Any:
    """Options of a distillation method as its own settings.

    Raises:
        ConfigError: unknown method; unknown key or wrong type in the options.
    """
    return parse(settings("method", kind), dict(options), f"options of method {kind!r}")


def differences(before: Any, now: Any, at: str = "") -> list[str]:
    """Human-readable differences of two plain values, such as "train.lr: 0.001 -> 0.003"."""
    if isinstance(before, dict) and isinstance(now, dict):
        lines = []
        for key in sorted(before.keys() | now.keys()):
            where = f"{at}.{key}" if at else key
            lines += differences(before.get(key, "default"), now.get(key, "default"), where)
        return lines
    return [] if before == now else [f"{at}: {before} -> {now}"]


def _sensors(run: RunConfig) -> frozenset[str]:
    """Sensors that the network or what it is taught looks at, and names of what it reads of them."""
    reads = reads_of(run.model, run.data)
    return frozenset({*run.model.sensors, *reads.sensors, *reads.names})


def _taught(run: RunConfig) -> frozenset[str]:
    """Sensors that the network or its teacher looks at; all, where that is no run of the configuration."""
    assert run.row.teacher is not None
    try:
        tree = config_tree()
        return _sensors(run) | _looked_at(tree, run.row.teacher, run.scale, run.teacher_seed)
    except ConfigError:
        return frozenset(ENCODERS)


@cache
def _looked_at(_tree: ConfigTree, run: str, scale: str, seed: int) -> frozenset[str]:
    return _sensors(load_run(run, scale, seed))


def _read(value: Any, sensors: frozenset[str], usual: Any = None) -> Any:
    """Fields of a dataclass that count, recursively, and its edition if it is not the first.

    Args:
        value: a settings dataclass.
        sensors: that are looked at.
        usual: what stands in its place where nothing is said: one of the same class, or anything else.
    """
    out: dict[str, Any] = {}
    cls: type = type(value)
    if (edition := getattr(cls, "edition", 1)) != 1:
        out["edition"] = edition
    same = type(usual) is cls
    if not same and hasattr(value, "kind"):
        out["kind"] = value.kind
    unread = value.unread() if hasattr(value, "unread") else ()
    for name, default, marks in field_facts(cls):
        if name in unread or any(_is_idle(mark, sensors) for mark in marks):
            continue
        held, expected = getattr(value, name), getattr(usual, name) if same else default
        if is_dataclass(held):
            if inner := _read(held, sensors, expected):
                out[name] = inner
        elif expected is _ABSENT or held != expected:
            out[name] = _plain(held, sensors)
    return out


def _is_idle(mark: Any, sensors: frozenset[str]) -> bool:
    return isinstance(mark, Volatile) or (isinstance(mark, ReadFor) and not mark.sensors & sensors)


def _plain(value: Any, sensors: frozenset[str]) -> Any:
    if isinstance(value, tuple | list):
        return [_plain(v, sensors) for v in value]
    if isinstance(value, dict):
        return {k: _plain(v, sensors) for k, v in value.items()}
    return _read(value, sensors) if is_dataclass(value) else value


@cache
def field_facts(cls: type) -> tuple[tuple[str, Any, tuple[Any, ...]], ...]:
    """Name, default (a special value where there is none) and marks of every field of a settings class."""
    hints = get_type_hints(cls, include_extras=True)
    out = []
    for f in fields(cls):
        hint = hints[f.name]
        marks = get_args(hint)[1:] if get_origin(hint) is Annotated else ()
        out.append((f.name, _default(f), marks))
    return tuple(out)


def _default(field: Any) -> Any:
    if isinstance(field.default, FieldInfo):
        return _ABSENT if field.default.is_required() else field.default.get_default(call_default_factory=True)
    if field.default is not MISSING:
        return field.default
    return field.default_factory() if field.default_factory is not MISSING else _ABSENT
