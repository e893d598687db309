"""Names to classes and to their settings: distillation methods, taps, detector stages, backbones, dataset readers.

A file in the package of its kind is enough: it registers a class by `register`, and the class names its settings (a
frozen dataclass) as `Settings`. Settings that stand in a module of their own beside it, `<name>_settings.py`, are found
without loading the class and the libraries that it needs, which take seconds to import: ours all do.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from bevkd.errors import ConfigError, nearest

T = TypeVar("T", bound=type)

_REGISTRY: dict[str, dict[str, Any]] = {}
_SETTINGS: dict[str, dict[str, type]] = {}
_SUFFIX = "_settings"
# Packages whose modules register something; imported on the first look-up of the kind, so that adding a file is enough.
_PACKAGES = {
    "method": "bevkd.distill.methods",
    "tap": "bevkd.distill.taps",
    "cellset": "bevkd.distill.taps",
    "detector": "bevkd.models.detectors",
    "lidar_encoder": "bevkd.models.lidar",
    "camera_encoder": "bevkd.models.camera",
    "radar_encoder": "bevkd.models.radar",
    "fuser": "bevkd.models.fuser",
    "image_backbone": "bevkd.models.backbone",
    "image_neck": "bevkd.models.camera.neck",
    "depth_net": "bevkd.models.camera.depth",
    "view_transform": "bevkd.models.camera.view",
    "compensation": "bevkd.models.camera.compensation",
    "bev_encoder": "bevkd.models.bev",
    "head": "bevkd.models.heads",
    "loss": "bevkd.models.heads",
    "decode": "bevkd.models.heads",
    "reader": "bevkd.data.readers",
    "input": "bevkd.data.inputs",
    "submission": "bevkd.train.submissions",
    "optimizer": "bevkd.train.optimizers",
    "schedule": "bevkd.train.schedules",
}
# What a class calls its settings where they have no module of their own. A head owns those of its loss and decoding.
_ATTRIBUTE = {"loss": ("head", "LossSettings"), "decode": ("head", "DecodeSettings")}


@dataclass(frozen=True)
class NoSettings:
    """The settings of what has none."""


def register(kind: str, name: str) -> Callable[[T], T]:
    """Class decorator that makes a class known as `name` of `kind`.

    Raises:
        ValueError: the name is taken.
    """
    return _adder(_REGISTRY, kind, name)


def register_settings(kind: str, name: str) -> Callable[[T], T]:
    """Class decorator that makes a frozen dataclass the settings of `name` of `kind`.

    Raises:
        ValueError: that has settings already.
    """
    return _adder(_SETTINGS, kind, name)


def _adder(registry: dict[str, dict[str, Any]], kind: str, name: str) -> Callable[[T], T]:
    def add(cls: T) -> T:
        table = registry.setdefault(kind, {})
        if name in table and table[name] is not cls:
            raise ValueError(f"{kind} {name!r} is registered twice")
        table[name] = cls
        return cls

    return add


def _load(kind: str, only_settings: bool = False) -> None:
    package_name = _PACKAGES.get(kind)
    if package_name is None:
        return
    try:
        package = importlib.import_module(package_name)
    except ModuleNotFoundError as error:
        if error.name != package_name:
            raise
        return
    for module in pkgutil.iter_modules(getattr(package, "__path__", [])):
        if not only_settings or module.name.endswith(_SUFFIX):
            importlib.import_module(f"{package_name}.{module.name}")


def names(kind: str) -> list[str]:
    """All registered names of a kind, sorted."""
    _load(kind)
    return sorted({*_REGISTRY.get(kind, {}), *_SETTINGS.get(kind, {})})


def settings_names(kind: str) -> list[str]:
    """Names of a kind whose settings are known without loading classes, sorted: those in modules of their own, and
    those of classes that are loaded already.
    """
    _load(kind, only_settings=True)
    return sorted({*_REGISTRY.get(kind, {}), *_SETTINGS.get(kind, {})})


def is_known(kind: str, name: str) -> bool:
    """Whether something is registered as `name`; where a module of that name holds it, without loading it."""
    package_name = _PACKAGES.get(kind)
    if name in _REGISTRY.get(kind, {}):
        return True
    if package_name is not None:
        path = getattr(importlib.import_module(package_name), "__path__", [])
        if any(module.name == name for module in pkgutil.iter_modules(path)):
            return True
    return name in names(kind)


def lookup(kind: str, name: str) -> Any:
    """The class registered as `name`.

    Raises:
        ConfigError: there is none; the message names the nearest known one.
    """
    if name not in _REGISTRY.get(kind, {}):
        _load(kind)
    return _found(_REGISTRY.get(kind, {}), kind, name)


def settings(kind: str, name: str) -> type:
    """The settings dataclass of what is registered as `name`.

    Raises:
        ConfigError: there is none; the message names the nearest known one.
    """
    table = _SETTINGS.setdefault(kind, {})
    if name not in table:
        _load(kind, only_settings=True)
    if name not in table:  # settings in the module of the class
        _load(kind)
        owner, attribute = _ATTRIBUTE.get(kind, (kind, "Settings"))
        for known, cls in _REGISTRY.get(owner, {}).items():
            table.setdefault(known, getattr(cls, attribute, NoSettings))
    found: type = _found(table, kind, name)
    return found


def _found(table: dict[str, Any], kind: str, name: str) -> Any:
    if name not in table:
        raise ConfigError(f"unknown {kind} {name!r}{nearest(name, table)}; known: {', '.join(sorted(table))}")
    return table[name]
