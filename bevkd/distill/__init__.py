"""Knowledge distillation: methods, engine, teacher caches."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bevkd.distill.base import DistillContext as DistillContext
    from bevkd.distill.base import DistillMethod as DistillMethod
    from bevkd.distill.base import FeatureSpec as FeatureSpec
    from bevkd.distill.base import Target as Target
    from bevkd.distill.base import Targets as Targets
    from bevkd.distill.build import build_method as build_method
    from bevkd.distill.cache import TeacherCache as TeacherCache
    from bevkd.distill.cache_build import build_cache as build_cache
    from bevkd.distill.cache_key import cache_name as cache_name
    from bevkd.distill.engine import DistillEngine as DistillEngine
    from bevkd.distill.settings import MethodSettings as MethodSettings
    from bevkd.distill.settings import method_settings as method_settings
    from bevkd.distill.sizes import estimate_cache_bytes as estimate_cache_bytes
    from bevkd.distill.tap import Tap as Tap
    from bevkd.distill.tap import Wanted as Wanted
    from bevkd.distill.teacher import SCORE_THRESHOLD as SCORE_THRESHOLD
    from bevkd.distill.teacher import teach as teach

# Loaded when they are asked for: what a cache is called and how large it will be is known without a tensor library.
_WHERE = {
    "DistillContext": "base",
    "DistillEngine": "engine",
    "DistillMethod": "base",
    "FeatureSpec": "base",
    "MethodSettings": "settings",
    "SCORE_THRESHOLD": "teacher",
    "Tap": "tap",
    "Target": "base",
    "Targets": "base",
    "TeacherCache": "cache",
    "Wanted": "tap",
    "build_cache": "cache_build",
    "build_method": "build",
    "cache_name": "cache_key",
    "estimate_cache_bytes": "sizes",
    "method_settings": "settings",
    "teach": "teacher",
}

__all__ = [
    "SCORE_THRESHOLD",
    "DistillContext",
    "DistillEngine",
    "DistillMethod",
    "FeatureSpec",
    "MethodSettings",
    "Tap",
    "Target",
    "Targets",
    "TeacherCache",
    "Wanted",
    "build_cache",
    "build_method",
    "cache_name",
    "estimate_cache_bytes",
    "method_settings",
    "teach",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
