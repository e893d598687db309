"""A trained run on other data: what may differ from its training, for it leaves the network alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from bevkd.config.load import parse_override
from bevkd.config.plain import merge, parse, to_plain
from bevkd.config.schema import DataConfig, RunConfig
from bevkd.errors import ConfigError, nearest

# Of `data`: what training alone reads, and what the network has learnt to see and to find.
_OF_TRAINING = ("train_split", "tune_split", "report_split", "train_stride", "min_points", "cbgs", "augment")
_OF_NETWORK = ("classes", "image_mean", "image_std", "image_horizon")


def changes(overrides: Sequence[str], index: str | None = None, root: str | None = None) -> dict[str, Any]:
    """Plain settings that a trained run is to be applied with: `--set`, `--index` and `--root`.

    Raises:
        ConfigError: an override that is none, is of the network or its training, or says what an option says as well.
    """
    out: dict[str, Any] = {}
    for text in overrides:
        out = merge(out, _checked(parse_override(text), text))
    for name, value in (("index", index), ("root", root)):
        if value is None:
            continue
        if name in out.get("data", {}):
            raise ConfigError(f"--{name} and --set data.{name} say the same; give one of them")
        out = merge(out, {"data": {name: value}})
    return out


def _checked(plain: dict[str, Any], text: str) -> dict[str, Any]:
    known = [field.name for field in fields(DataConfig) if field.name not in (*_OF_TRAINING, *_OF_NETWORK)]
    keys = [*(f"data.{name}" for name in known), "model.decode"]
    data, decode = plain.get("data"), (plain.get("model") or {}) if isinstance(plain.get("model"), dict) else None
    if isinstance(data, dict) and set(plain) == {"data"}:
        if isinstance(data.get("classes"), dict) and "categories" in known:  # own names of the network's classes
            data = {"categories": data["classes"], **{key: data[key] for key in data if key != "classes"}}
        wrong = [f"data.{name}" for name in data if name not in known]
        if not wrong:
            return {"data": data}
    elif decode is not None and set(plain) == {"model"} and set(decode) == {"decode"}:
        return plain
    else:
        wrong = [text.partition("=")[0].strip()]
    name = wrong[0].removeprefix("data.")
    if name in _OF_NETWORK:
        why = "is what the network was trained for"
    elif name in _OF_TRAINING or not wrong[0].startswith("data."):
        why = "is of the network or its training, which stay as they are"
    else:
        why = f"is no setting{nearest(wrong[0], keys)}"
    raise ConfigError(f"--set {text}: {wrong[0]} {why}; a trained run takes {', '.join(keys)}")


def applied(run: RunConfig, plain: Mapping[str, Any]) -> RunConfig:
    """The run with other settings of `changes`; what they do not name is as it was trained.

    Raises:
        ConfigError: a value of a wrong type.
    """
    return parse(RunConfig, merge(to_plain(run), dict(plain)), f"run {run.run!r} on other data")
