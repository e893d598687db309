"""Which file and line a setting of a run comes from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from bevkd.config.compose import layers, load_run, row_of
from bevkd.config.load import load_scale
from bevkd.config.papers import load_papers
from bevkd.config.places import config_tree
from bevkd.config.plain import ABSENT, Layer, joins, merge, to_plain, value_at
from bevkd.config.rows import recipe_parts
from bevkd.config.schema import RowConfig
from bevkd.config.settings import nearest_setting, setting_names
from bevkd.errors import ConfigError, nearest
from bevkd.io import read_text

_FACTOR = ("train", "steps_factor")
_MULTIPLIED = (("train", "steps"), ("train", "epochs"))
_NAMES = (("run",), ("scale",), ("seed",), ("row", "id"))


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
        place = "" if self.path is None else f"  {_shown(self.path)}" + ("" if self.line is None else f":{self.line}")
        return f"{self.value!r}  {self.label}{place}"


def _shown(path: Path) -> Path:
    """A path as seen from the working directory, where it lies below it."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def explain(run: str, scale: str, seed: int, key: str, overrides: Sequence[str] = ()) -> tuple[Any, list[Source]]:
    """The value of a setting of a run, and every place that says it; the last one wins.

    What `train.steps_factor` says comes last for the settings that it multiplies.

    Raises:
        ConfigError: unknown run or scale, or no such setting; the message names the nearest one.
    """
    keys = tuple(key.split("."))
    resolved = to_plain(load_run(run, scale, seed, list(overrides)))
    found: Any = resolved
    for number, name in enumerate(keys):
        if not isinstance(found, dict) or name not in found:
            at = ".".join(keys[:number]) or f"run {run!r}"
            meant = nearest(name, found if isinstance(found, dict) else ())
            raise ConfigError(f"{at} has no setting {name!r}{meant or nearest_setting(key, setting_names(resolved))}")
        found = found[name]
    if keys in _NAMES:
        return found, [Source("says which run it is", found)]
    said = _row_layers(run, scale) if keys[0] == "row" else layers(row_of(run, scale), scale, overrides)
    sources = _sources(said, keys)
    factors = _sources(said, _FACTOR) if keys in (*_MULTIPLIED, _FACTOR) else []
    factors = [replace(one, label=f"{one.label}: multiplies train.steps and train.epochs") for one in factors]
    if keys == _FACTOR:
        return found, factors or [Source("default of the code", found)]
    return found, [*(sources or [Source("default of the code", found)]), *factors]


def _row_layers(run: str, scale: str) -> list[Layer]:
    """What is said of the row itself: by its paper, and by the scale of how it is taught."""
    pieces = next(paper.pieces[run] for paper in load_papers().values() if run in paper.rows)
    out = [Layer(piece.label, {"row": piece.plain}, piece.path, piece.at, ("row",)) for piece in pieces]
    if mode := load_scale(scale).teacher_mode:
        file = config_tree().named("scales", scale)
        out.append(Layer(f"scale {scale}", {"row": {"teacher_mode": mode}}, file, (), ("row",)))
    return [*_init_layers(row_of(run, scale), scale), *out]


def _init_layers(row: RowConfig, scale: str) -> list[Layer]:
    """Where its recipe has a row start from: said before it says so itself."""
    return [
        replace(layer, plain={"row": {"init": to_plain(part)["init"]}}, above=("row",))
        for part, layer in recipe_parts(row, scale)
        if part.init is not None
    ]


def _sources(said: Iterable[Layer], keys: Sequence[str]) -> list[Source]:
    """The places that say a setting, without those whose word ended with another kind."""
    sources: list[Source] = []
    before: dict[str, Any] = {}
    for layer in said:
        if _ends(before, layer.plain, keys):
            sources.clear()
        before = merge(before, layer.plain)
        value = value_at(layer.plain, keys)
        if value is not ABSENT:
            line = None if layer.path is None else _line(layer.path, layer, keys)
            sources += _sources(layer.parts, keys) or [Source(layer.label, value, layer.path, line)]
    return sources


def _ends(before: Any, plain: Any, keys: Sequence[str]) -> bool:
    """Whether settings begin anew at a key or above it, so that what was said of it before means nothing."""
    for number in range(1, len(keys) + 1):
        known, value = value_at(before, keys[:number]), value_at(plain, keys[:number])
        if known is ABSENT or value is ABSENT:
            return False
        if not joins(known, value):
            kinds = isinstance(known, dict) and isinstance(value, dict)
            # Of the kind itself both speak: the later one wins, as of any other setting.
            return not (kinds and tuple(keys[number:]) == ("kind",)) and (kinds or number < len(keys))
    return False


def _line(path: Path, layer: Layer, keys: Sequence[str]) -> int | None:
    """Line of a key in the file of a layer, or of the nearest one above it (an alias stands for it there)."""
    node: Any = yaml.compose(read_text(path), Loader=yaml.SafeLoader)
    line = None
    for name in (*layer.at, *keys[len(layer.above) :]):
        inner = _child(node, name)
        if inner is None:
            break
        line, node = inner
    return line


def _child(node: Any, name: str) -> tuple[int, Any] | None:
    """Line and content of a key of a mapping (also one that is merged in), or of an item of a list by its number."""
    if isinstance(node, yaml.SequenceNode):
        item = node.value[int(name)] if name.isdigit() and int(name) < len(node.value) else None
        return None if item is None else (item.start_mark.line + 1, item)
    if not isinstance(node, yaml.MappingNode):
        return None
    for key, value in node.value:
        if key.value == name:
            return key.start_mark.line + 1, value
    merged = [value for key, value in node.value if key.tag == "tag:yaml.org,2002:merge"]
    shared = [one for value in merged for one in (value.value if isinstance(value, yaml.SequenceNode) else [value])]
    return next((found for one in shared if (found := _child(one, name)) is not None), None)
