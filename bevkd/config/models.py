"""Models of config/models, some of them `like` another one but narrower, shallower, or otherwise different.

    like: lidar_pillar
    width: 0.5
    layers: [2, 3, 3]

`width` multiplies every number of channels that the other model has at the scale in question; `layers` says how many
convolutions the stages of its BEV encoder keep; what the file sets comes after. Image backbones stay as they are: they
have options of their own.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from bevkd.config.bounds import Factor, Few, Name, Words
from bevkd.config.places import ConfigTree
from bevkd.config.plain import parse, read_yaml, to_plain
from bevkd.config.schema import ModelConfig
from bevkd.errors import ConfigError

_SETTINGS = ("model", "data", "train")


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class ModelFile:
    """A file of config/models.

    Attributes:
        like: the model that it starts from.
        width: factor of that one's channels, rounded down as the published students are: 256 / 1.4 = 182.
        layers: convolutions of each stage of the BEV encoder, at most as many as that one has.
        model, data, train: settings of its own.
    """

    like: Name | None = None
    width: Factor = 1.0
    layers: tuple[Few, ...] | None = None
    model: dict[Words, Any] = Field(default_factory=dict)
    data: dict[Words, Any] = Field(default_factory=dict)
    train: dict[Words, Any] = Field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.like is None and (self.width, self.layers) != (1.0, None):
            raise ValueError("width and layers belong to a model that is like another one")

    @property
    def settings(self) -> dict[str, Any]:
        """Settings of its own."""
        return {name: value for name in _SETTINGS if (value := getattr(self, name))}


@cache
def read_model(tree: ConfigTree, name: str) -> ModelFile:
    """A file of config/models.

    Raises:
        ConfigError: missing, malformed, or an unknown key.
    """
    path = tree.named("models", name)
    return parse(ModelFile, read_yaml(path) or {}, str(path))


def lineage(tree: ConfigTree, name: str) -> list[str]:
    """A model, the one that it is like, and so on.

    Raises:
        ConfigError: a model is like itself, or like an unknown one.
    """
    out = [name]
    while (like := read_model(tree, out[-1]).like) is not None:
        if like in out:
            raise ConfigError(f"config/models: {' is like '.join((*out, like))}")
        out.append(like)
    return out


def _narrow(node: dict[str, Any], factor: float) -> dict[str, Any]:
    """The numbers of channels in settings of a model, multiplied; 0 means that a layer is not there, and stays."""

    def scaled(value: Any) -> Any:
        if isinstance(value, list):
            return [scaled(one) for one in value]
        # The small addend keeps 100 * 0.29 at 29.
        return max(1, math.floor(value * factor + 1e-9)) if value else value

    out = {}
    for key, value in node.items():
        if isinstance(value, dict) and key != "options":
            out[key] = _narrow(value, factor)
        elif key in ("channels", "widths", "feedforward") or key.endswith("_channels"):
            out[key] = scaled(value)
    return out


def compression(model: dict[str, Any], file: ModelFile, where: str) -> list[dict[str, Any]]:
    """What a file's `width` and `layers` change of a model, as settings of a run.

    Args:
        model: settings of the model that it is like.
        file: the one that is narrower or shallower.
        where: for messages.
    """
    full = to_plain(parse(ModelConfig, model, where))
    out: list[dict[str, Any]] = []
    if file.width != 1.0:
        out.append({"model": _narrow(full, file.width)})
    if file.layers is not None:
        depths = full["bev"]["depths"]
        if len(file.layers) < len(depths):
            raise ConfigError(f"{where}: layers: the BEV encoder has {len(depths)} stages")
        out.append({"model": {"bev": {"depths": [min(pair) for pair in zip(file.layers, depths, strict=False)]}}})
    return out
