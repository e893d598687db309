"""Which file and line a setting of a run comes from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import yaml

from bevkd.config.compose import layers, load_run, row_of
from bevkd.config.plain import Layer, to_plain
from bevkd.errors import ConfigError, nearest


@dataclass(frozen=True)
class Source:
    """One place that says a setting.

    Attributes:
        label: which layer it is, in words.
        value: what it says.
        path: the file; none for the code's default and the command line.
        line: from 1; none where the file has no line of its own for it.
    """

    label: str
    value: Any
    path: Path | None = None
    line: int | None = None

    def __str__(self) -> str:
        place = "" if self.path is None else f"  {self.path}" + ("" if self.line is None else f":{self.line}")
        return f"{self.value!r}  {self.label}{place}"


def explain(run: str, scale: str, seed: int, key: str, overrides: Sequence[str] = ()) -> tuple[Any, list[Source]]:
    """The value of a setting of a run, and every place that says it; the last one wins.

    Raises:
        ConfigError: unknown run or scale, or no such setting; the message names the nearest one.
    """
    keys = tuple(key.split("."))
    resolved = to_plain(load_run(run, scale, seed, list(overrides)))
    found: Any = resolved
    for number, name in enumerate(keys):
        if not isinstance(found, dict) or name not in found:
            at = ".".join(keys[:number]) or f"run {run!r}"
            raise ConfigError(f"{at} has no setting {name!r}{nearest(name, found if isinstance(found, dict) else ())}")
        found = found[name]
    sources: list[Source] = []
    for layer in layers(row_of(run, scale), scale, overrides):
        value = _value(layer.plain, keys)
        if value is not None:
            line = None if layer.path is None else _line(layer, keys)
            sources.append(Source(layer.label, value, layer.path, line))
    return found, sources or [Source("default of the code", found)]


def _value(plain: Any, keys: Sequence[str]) -> Any:
    return reduce(lambda inner, key: inner.get(key) if isinstance(inner, dict) else None, keys, plain)


def _line(layer: Layer, keys: Sequence[str]) -> int | None:
    """Line of a key in the file of a layer, or of the nearest one above it (an alias stands for it there)."""
    assert layer.path is not None
    node: Any = yaml.compose(layer.path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    line = None
    for name in (*layer.at, *keys[len(layer.above) :]):
        inner = _child(node, name)
        if inner is None:
            break
        line, node = inner
    return line


def _child(node: Any, name: str) -> tuple[int, Any] | None:
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            found = _child(item, "id")
            if found is not None and found[1].value == name:
                return item.start_mark.line + 1, item
        return None
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == name:
                return key.start_mark.line + 1, value
    return None
