"""Knowledge distillation: methods, engine, teacher caches."""

from bevkd.distill.base import DistillContext, DistillMethod, FeatureSpec, Target, Targets
from bevkd.distill.build import build_cache_method, build_method, method_options
from bevkd.distill.cache import TeacherCache
from bevkd.distill.cache_build import build_cache, cache_name
from bevkd.distill.engine import DistillEngine
from bevkd.distill.teacher import SCORE_THRESHOLD, teach

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
