"""Names to classes: distillation methods, detector stages, image backbones, dataset readers."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from typing import Any, TypeVar

from bevkd.errors import ConfigError, nearest

T = TypeVar("T", bound=type)

_REGISTRY: dict[str, dict[str, Any]] = {}
# Packages whose modules register something; imported on the first look-up of the kind, so that adding a file is enough.
_PACKAGES = {
    "method": "bevkd.distill.methods",
    "detector": "bevkd.models.detectors",
    "lidar_encoder": "bevkd.models.lidar",
    "camera_encoder": "bevkd.models.camera",
    "fuser": "bevkd.models.fuser",
    "image_backbone": "bevkd.models.backbone",
    "depth_net": "bevkd.models.camera.depth",
    "view_transform": "bevkd.models.camera.view",
    "bev_encoder": "bevkd.models.bev",
    "head": "bevkd.models.heads",
    "reader": "bevkd.data.readers",
    "submission": "bevkd.train.submissions",
}


def register(kind: str, name: str) -> Callable[[T], T]:
    """Class decorator that makes a class known as `name` of `kind`.

    Raises:
        ValueError: the name is taken.
    """

    def add(cls: T) -> T:
        table = _REGISTRY.setdefault(kind, {})
        if name in table and table[name] is not cls:
            raise ValueError(f"{kind} {name!r} is registered twice")
        table[name] = cls
        return cls

    return add


def _load(kind: str) -> None:
    package_name = _PACKAGES.get(kind)
    if package_name is None:
        return
    package = importlib.import_module(package_name)
    for module in pkgutil.iter_modules(getattr(package, "__path__", [])):
        importlib.import_module(f"{package_name}.{module.name}")


def names(kind: str) -> list[str]:
    """All registered names of a kind, sorted."""
    _load(kind)
    return sorted(_REGISTRY.get(kind, {}))


def lookup(kind: str, name: str) -> Any:
    """The class registered as `name`.

    Raises:
        ConfigError: there is none; the message names the nearest known one.
    """
    _load(kind)
    table = _REGISTRY.get(kind, {})
    if name not in table:
        raise ConfigError(f"unknown {kind} {name!r}{nearest(name, table)}; known: {', '.join(sorted(table))}")
    return table[name]
