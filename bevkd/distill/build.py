"""From a row's `method: {kind, options, factor}` to a `DistillMethod`."""

from __future__ import annotations

from bevkd.config import MethodConfig
from bevkd.distill.base import DistillMethod, FeatureSpec
from bevkd.distill.settings import method_settings
from bevkd.registry import lookup


def build_method(config: MethodConfig, student: FeatureSpec, teacher: FeatureSpec) -> DistillMethod:
    """Build a method between two networks.

    Raises:
        ConfigError: unknown method or option, or networks that the method cannot connect.
    """
    method: DistillMethod = lookup("method", config.kind)(method_settings(config), student, teacher)
    method.factor = config.factor
    return method
