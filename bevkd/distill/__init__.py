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
    from bevkd.distill.build import build_cache_method as build_cache_method
    from bevkd.distill.build import build_method as build_method
    from bevkd.distill.build import method_options as method_options
    from bevkd.distill.cache import TeacherCache as TeacherCache
    from bevkd.distill.cache_build import build_cache as build_cache
    from bevkd.distill.cache_build import cache_name as cache_name
    from bevkd.distill.engine import DistillEngine as DistillEngine
    from bevkd.distill.teacher import SCORE_THRESHOLD as SCORE_THRESHOLD
    from bevkd.distill.teacher import teach as teach

# Loaded when they are asked for: the workflow asks for the names of caches, and torch takes seconds to import.
_WHERE = {
    "SCORE_THRESHOLD": "teacher",
    "DistillContext": "base",
    "DistillEngine": "engine",
    "DistillMethod": "base",
    "FeatureSpec": "base",
    "Target": "base",
    "Targets": "base",
    "TeacherCache": "cache",
    "build_cache": "cache_build",
    "build_cache_method": "build",
    "build_method": "build",
    "cache_name": "cache_build",
    "method_options": "build",
    "teach": "teacher",
}

__all__ = [
    "SCORE_THRESHOLD",
    "DistillContext",
    "DistillEngine",
    "DistillMethod",
    "FeatureSpec",
    "Target",
    "Targets",
    "TeacherCache",
    "build_cache",
    "build_cache_method",
    "build_method",
    "cache_name",
    "method_options",
    "teach",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
