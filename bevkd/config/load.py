"""Reading and parsing of YAML files: experiment rows and scales; `bevkd.config.compose` makes runs of them."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from bevkd.config.scale import ScaleConfig
from bevkd.config.schema import RowConfig
from bevkd.config.stages import adapter, error_lines
from bevkd.errors import ConfigError, nearest

T = TypeVar("T")
# The workflow reads every run before it starts: libyaml does in 0.2 s what pure Python does in 2 s.
_SAFE_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def config_dir() -> Path:
    """Folder of the YAML files: $BEVKD_CONFIG, else ./config, else the one of the source tree."""
    if "BEVKD_CONFIG" in os.environ:
        return Path(os.environ["BEVKD_CONFIG"])
    here = Path("config")
    return here if (here / "config.yaml").exists() else Path(__file__).resolve().parents[2] / "config"


def read_yaml(path: Path) -> Any:
    """Read a YAML file as plain data.

    Raises:
        ConfigError: missing or malformed.
    """
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=_SAFE_LOADER)
    except FileNotFoundError:
        known = [p.stem for p in path.parent.glob("*.yaml")]
        raise ConfigError(f"no such config file: {path}{nearest(path.stem, known)}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not valid YAML: {error}") from error


def parse(kind: type[T], value: Any, where: str) -> T:
    """Build a config dataclass from plain data.

    Raises:
        ConfigError: unknown key or wrong type; the message names the place and every offending key.
    """
    try:
        found: T = adapter(kind).validate_python(value)
        return found
    except ValidationError as error:
        raise ConfigError(f"{where}: " + "; ".join(error_lines(kind, error))) from None


def merge(base: dict[str, Any], over: dict[str, Any] | None) -> dict[str, Any]:
    """Recursive merge of plain dictionaries; lists and scalars of `over` replace.

    Settings that name another `kind` than the one before begin anew: those of the other class mean nothing to it.
    """
    out = dict(base)
    for key, value in (over or {}).items():
        known = out.get(key)
        if (
            isinstance(value, dict)
            and isinstance(known, dict)
            and value.get("kind", known.get("kind")) == known.get("kind", value.get("kind"))
        ):
            out[key] = merge(known, value)
        else:
            out[key] = value
    return out


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
def _rows(folder: Path) -> dict[str, RowConfig]:
    rows: dict[str, RowConfig] = {}
    for path in sorted((folder / "experiments").glob("*.yaml")):
        content = read_yaml(path) or {}
        unknown = set(content) - {"runs", "defaults"}
        if unknown:
            raise ConfigError(f"{path}: unknown key {sorted(unknown)[0]!r}; known: defaults, runs")
        for row in content.get("runs", []):
            merged = merge(content.get("defaults", {}), row)
            config = parse(RowConfig, merged, f"{path}: run {row.get('id', '?')!r}")
            if config.id in rows:
                raise ConfigError(f"{path}: run {config.id!r} is defined twice")
            rows[config.id] = config
    for config in rows.values():
        if config.teacher is not None and config.teacher not in rows:
            raise ConfigError(
                f"run {config.id!r}: unknown teacher run {config.teacher!r}{nearest(config.teacher, rows)}"
            )
        if config.teacher is not None and config.teacher_seed not in rows[config.teacher].seeds:
            raise ConfigError(f"run {config.id!r}: teacher {config.teacher!r} has no seed {config.teacher_seed}")
        if (config.teacher is not None) and config.method is None:
            raise ConfigError(f"run {config.id!r}: a teacher needs a method")
    return rows


def load_rows() -> dict[str, RowConfig]:
    """All experiment rows by run id, in file order.

    Raises:
        ConfigError: unknown keys, duplicate ids, unknown teachers.
    """
    return _rows(config_dir().resolve())


@cache
def _scale(folder: Path, scale: str) -> ScaleConfig:
    settings = parse(ScaleConfig, read_yaml(folder / "scales" / f"{scale}.yaml"), f"scale {scale!r}")
    for kind, names in (("models", settings.models), ("datasets", settings.datasets)):
        known = [path.stem for path in (folder / kind).glob("*.yaml")]
        for name in names:
            if name not in known:
                raise ConfigError(f"scale {scale!r}: {kind}: unknown name {name!r}{nearest(name, known)}")
    settings.check(scale, _rows(folder).values())
    return settings


def load_scale(scale: str) -> ScaleConfig:
    """A file of config/scales.

    Raises:
        ConfigError: no such scale, unknown keys or names, a rule for no run.
    """
    return _scale(config_dir().resolve(), scale)


def run_dir(run: str, scale: str, seed: int, root: str | Path = "results/runs") -> Path:
    """Where a run keeps its model, logs, predictions and metrics."""
    return Path(root) / scale / run / f"seed{seed}"
