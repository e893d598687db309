"""YAML files as plain data, and plain data as config dataclasses."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from bevkd.config.stages import adapter, error_lines, to_plain
from bevkd.config.yaml_text import load_yaml
from bevkd.errors import ConfigError, DataError, nearest
from bevkd.io import read_text

T = TypeVar("T")
ABSENT = object()


@dataclass(frozen=True)
class Layer:
    """Some settings and where they are said.

    Attributes:
        label: what says so, in words.
        plain: the settings.
        path: the file; none: the command line.
        at: keys that lead to them in the file; an item of a list by its number, from 0.
        above: keys of the run that the file leaves out, because `at` stands for them.
        of_run: whether it speaks of one run, and so must not speak of stages that this run's model has not.
        parts: what they were merged from, later ones on top; none where they were said at once.
    """

    label: str
    plain: dict[str, Any]
    path: Path | None = None
    at: tuple[str, ...] = ()
    above: tuple[str, ...] = ()
    of_run: bool = False
    parts: tuple[Layer, ...] = ()


def read_yaml(path: Path) -> Any:
    """Read a YAML file as plain data.

    Raises:
        ConfigError: missing, no text, or as `load_yaml`.
    """
    if not path.exists() and not path.is_symlink():
        known = sorted(p.stem for p in path.parent.glob("*.yaml"))
        hint = nearest(path.stem, known) or (f"; there are {', '.join(known)}" if known else "")
        raise ConfigError(f"no such config file: {path}{hint}")
    try:
        text = read_text(path)
    except DataError as error:
        raise ConfigError(str(error)) from error
    return load_yaml(text, str(path))


def read_mapping(path: Path, known: Iterable[str] | None = None) -> dict[str, Any]:
    """A YAML file that is a mapping (of known keys); no file is an empty one.

    Raises:
        ConfigError: malformed, no mapping, or an unknown key.
    """
    content = (read_yaml(path) or {}) if path.exists() else {}
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: wants a mapping")
    return content if known is None else check_keys(content, known, str(path))


def check_keys(content: Any, known: Iterable[str], where: str) -> dict[str, Any]:
    """The content itself, if it is a mapping of known keys.

    Raises:
        ConfigError: it is not; the message names the place and the nearest known key.
    """
    known = list(known)
    if not isinstance(content, dict):
        raise ConfigError(f"{where}: wants a mapping of {', '.join(known)}")
    for key in content:
        if key not in known:
            raise ConfigError(f"{where}: unknown key {key!r}{nearest(key, known)}; known: {', '.join(known)}")
    return content


def parse(kind: type[T], value: Any, where: str, layers: Iterable[Layer] = ()) -> T:
    """Build a config dataclass from plain data; `layers` are what it was merged from, later ones on top.

    Raises:
        ConfigError: unknown key or wrong type; the message names the place and every offending key, and the file that
            sets it.
    """
    try:
        found: T = adapter(kind).validate_python(value)
        return found
    except ValidationError as error:
        lines = [line + _source(line.partition(":")[0].split("."), layers) for line in error_lines(kind, error)]
        raise ConfigError(f"{where}: " + "; ".join(line.removeprefix(": ") for line in lines)) from None


def _source(keys: list[str], layers: Iterable[Layer]) -> str:
    """The file of the last layer that has a key."""
    found = ""
    for layer in layers:
        if value_at(layer.plain, keys) is not ABSENT:
            found = f" ({layer.label}: {layer.path})" if layer.path else f" ({layer.label})"
    return found


def value_at(plain: Any, keys: Iterable[str]) -> Any:
    """What plain data say of a setting, which may be null; `ABSENT` if nothing."""
    for key in keys:
        if not isinstance(plain, dict) or key not in plain:
            return ABSENT
        plain = plain[key]
    return plain


def joins(known: Any, value: Any) -> bool:
    """Whether a value is merged into the one before: both are mappings, and not of two kinds."""
    if not isinstance(known, dict) or not isinstance(value, dict):
        return False
    return bool(value.get("kind", known.get("kind")) == known.get("kind", value.get("kind")))


def merge(base: dict[str, Any], over: dict[str, Any] | None) -> dict[str, Any]:
    """Recursive merge of plain dictionaries; lists and scalars of `over` replace.

    Settings that name another `kind` than the one before begin anew: those of the other class mean nothing to it.
    """
    out = dict(base)
    for key, value in (over or {}).items():
        out[key] = merge(out[key], value) if joins(out.get(key), value) else value
    return out


__all__ = [
    "ABSENT",
    "Layer",
    "check_keys",
    "joins",
    "merge",
    "parse",
    "read_mapping",
    "read_yaml",
    "to_plain",
    "value_at",
]
