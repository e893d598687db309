"""YAML files -> `RunConfig`.

Later ones win: dataclass defaults, data set, model, scale, recipe of the paper, row, row at the scale, `--set`.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache, reduce
from pathlib import Path
from typing import Any

import yaml

from bevkd.config.models import derived, lineage, read_model
from bevkd.config.papers import load_rows, recipe_layers, row_layers
from bevkd.config.plain import Layer, config_dir, merge, parse, read_yaml, to_plain
from bevkd.config.scale import ScaleConfig
from bevkd.config.schema import RowConfig, RunConfig
from bevkd.errors import ConfigError, nearest


def parse_override(text: str) -> dict[str, Any]:
    """`train.steps=100` -> {"train": {"steps": 100}}; the value is YAML.

    Raises:
        ConfigError: no equals sign, or the value is not YAML.
    """
    key, sep, value = text.partition("=")
    if not sep or not key.strip():
        raise ConfigError(f"--set wants key=value, got {text!r}")
    try:
        parsed: Any = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {text!r}: the value is not YAML: {error}") from error
    for part in reversed(key.strip().split(".")):
        parsed = {part: parsed}
    return dict(parsed)


@cache
def _scale(folder: Path, scale: str) -> ScaleConfig:
    path = folder / "scales" / f"{scale}.yaml"
    settings = parse(ScaleConfig, read_yaml(path), str(path))
    for kind, names in (("models", settings.models), ("datasets", settings.datasets)):
        known = [file.stem for file in (folder / kind).glob("*.yaml")]
        for name in names:
            if name not in known:
                raise ConfigError(f"{path}: {kind}: unknown name {name!r}{nearest(name, known)}")
    return settings


def load_scale(scale: str) -> ScaleConfig:
    """A file of config/scales.

    Raises:
        ConfigError: no such scale, unknown keys or names.
    """
    return _scale(config_dir().resolve(), scale)


def _layers(row: RowConfig, scale: str) -> list[Layer]:
    """What is settled before the model's own compression and the row: data set, model, scale, recipe."""
    folder, settings = config_dir(), load_scale(scale)
    root, file = lineage(folder, row.model)[-1], folder / "scales" / f"{scale}.yaml"
    dataset = folder / "datasets" / f"{row.dataset}.yaml"
    return [
        (f"data set {row.dataset}", read_yaml(dataset), dataset),
        (f"model {root}", read_model(folder, root).settings, folder / "models" / f"{root}.yaml"),
        (f"scale {scale}", settings.common, file),
        (f"scale {scale}, data set {row.dataset}", settings.datasets.get(row.dataset, {}), file),
        (f"scale {scale}, model {root}", settings.models.get(root, {}), file),
        *recipe_layers(row, scale),
    ]


def load_run(run: str, scale: str, seed: int, overrides: list[str] | None = None) -> RunConfig:
    """Resolve one run.

    Raises:
        ConfigError: unknown run, scale, model or dataset; unknown key or wrong type anywhere; an override of what says
            which run it is.
    """
    rows = load_rows()
    if run not in rows:
        raise ConfigError(f"unknown run {run!r}{nearest(run, rows)}")
    row, folder, where = rows[run], config_dir(), f"run {run!r} at scale {scale!r}"
    before = _layers(row, scale)
    start: dict[str, Any] = {}
    plain = reduce(merge, (settings for _, settings, _ in before), start)
    plain = derived(plain, folder, row.model, load_scale(scale).models, where)
    after = row_layers(row, scale)
    plain = reduce(merge, (settings for _, settings, _ in after), plain)
    row = replace(row, teacher_mode=load_scale(scale).teacher_mode or row.teacher_mode)
    for text in overrides or []:
        plain = merge(plain, parse_override(text))
    for key in ("run", "scale", "seed", "row"):
        if key in plain:
            raise ConfigError(f"run {run!r}: {key!r} cannot be set, it says which run this is")
    plain |= {"run": run, "scale": scale, "seed": seed, "row": to_plain(row)}
    config = parse(RunConfig, plain, where, [*before, *after])
    factor = config.train.steps_factor
    steps, epochs = round(config.train.steps * factor), max(1, round(config.train.epochs * factor))
    return replace(config, train=replace(config.train, steps=steps, epochs=epochs, steps_factor=1.0))


def run_dir(run: str, scale: str, seed: int, root: str | Path = "results/runs") -> Path:
    """Where a run keeps its model, logs, predictions and metrics."""
    return Path(root) / scale / run / f"seed{seed}"


__all__ = [
    "config_dir",
    "load_rows",
    "load_run",
    "load_scale",
    "merge",
    "parse",
    "parse_override",
    "read_yaml",
    "run_dir",
    "to_plain",
]
