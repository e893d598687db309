"""From a row's `method: {name, options}` to a `DistillMethod`."""

from __future__ import annotations

from typing import Any

from bevkd.config import MethodConfig, parse
from bevkd.distill.base import DistillMethod, FeatureSpec
from bevkd.registry import lookup


def method_options(config: MethodConfig) -> tuple[type[DistillMethod], Any]:
    """The class of a method and its checked options.

    Raises:
        ConfigError: unknown method; unknown key or wrong type in the options.
    """
    cls = lookup("method", config.kind)
    return cls, parse(cls.Config, dict(config.options), f"options of method {config.kind!r}")


def build_method(config: MethodConfig, student: FeatureSpec, teacher: FeatureSpec) -> DistillMethod:
    """Build a method between two networks.

    Raises:
        ConfigError: unknown method or option, or networks that the method cannot connect.
    """
    cls, options = method_options(config)
    return cls(options, student, teacher)


def build_cache_method(config: MethodConfig, teacher: FeatureSpec) -> DistillMethod:
    """The form of a method that makes the targets of a teacher cache; it depends on no student.

    Raises:
        ConfigError: unknown method or option.
    """
    cls, options = method_options(config)
    return cls(cls.for_cache(options), teacher, teacher)
