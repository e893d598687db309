"""Training, resuming, distilling, detecting: what a run does once its configuration is known."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bevkd.train.checkpoint import load_detector as load_detector
    from bevkd.train.loop import TrainingError as TrainingError
    from bevkd.train.loop import train as train
    from bevkd.train.predict import evaluate_run as evaluate_run
    from bevkd.train.resolve import ensure_cache as ensure_cache

# Loaded when they are asked for: training needs libraries that detecting does not, and they take seconds to import.
_WHERE = {
    "TrainingError": "loop",
    "ensure_cache": "resolve",
    "evaluate_run": "predict",
    "load_detector": "checkpoint",
    "train": "loop",
}

__all__ = ["TrainingError", "ensure_cache", "evaluate_run", "load_detector", "train"]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
