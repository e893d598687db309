"""Scales, overrides and folders; `bevkd.config.compose` makes runs of them."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from bevkd import registry
from bevkd.config.places import ConfigTree, config_tree
from bevkd.config.plain import parse, read_yaml
from bevkd.config.scale import ScaleConfig
from bevkd.config.yaml_text import load_yaml
from bevkd.errors import ConfigError, nearest
from bevkd.names import check_name


def parse_override(text: str) -> dict[str, Any]:
    """`train.steps=100` -> {"train": {"steps": 100}}; the value is YAML.

    Raises:
        ConfigError: no equals sign, or the value is not YAML.
    """
    key, sep, value = text.partition("=")
    if not sep or not key.strip():
        raise ConfigError(f"--set wants key=value, got {text!r}")
    try:
        parsed: Any = load_yaml(value, "the value")
    except ConfigError as error:
        raise ConfigError(f"--set {text!r}: {error}") from error
    for part in reversed(key.strip().split(".")):
        parsed = {part: parsed}
    return dict(parsed)


@cache
def _scale(tree: ConfigTree, scale: str) -> ScaleConfig:
    check_name(scale, "scale")
    known_scales = tree.files("scales")
    if scale not in known_scales:
        raise ConfigError(f"unknown scale {scale!r}{nearest(scale, known_scales)}; known: {', '.join(known_scales)}")
    path = known_scales[scale]
    settings = parse(ScaleConfig, read_yaml(path), str(path))
    for kind, names in (("models", settings.models), ("datasets", settings.datasets)):
        known = tree.files(kind)
        for name in names:
            if name not in known:
                raise ConfigError(f"{path}: {kind}: unknown name {name!r}{nearest(name, known)}")
    for method in settings.methods:
        try:
            registry.settings("method", method)
        except ConfigError as error:
            raise ConfigError(f"{path}: methods: {error}") from None
    return settings


def load_scale(scale: str) -> ScaleConfig:
    """A file of config/scales.

    Raises:
        ConfigError: no such scale, unknown keys or names.
    """
    return _scale(config_tree(), scale)


def run_dir(run: str, scale: str, seed: int, root: str | Path = "results/runs") -> Path:
    """Where a run keeps its model, logs, predictions and metrics.

    Raises:
        ConfigError: run or scale are no names.
    """
    return Path(root) / check_name(scale, "scale") / check_name(run, "run") / f"seed{int(seed)}"
