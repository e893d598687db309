"""Cross-modality knowledge distillation of bird's-eye-view 3D object detectors.

`load` gives a trained detector that works on plain arrays, `evaluate` the metrics of a benchmark: docs/python_api.md.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bevkd.api.detections import Detections as Detections
    from bevkd.api.evaluate import evaluate as evaluate
    from bevkd.api.model import Model as Model
    from bevkd.api.model import load as load

__version__ = "0.1.0"

# Loaded when they are asked for: the command line asks for none of them, and torch takes seconds to import.
_WHERE = {"Detections": "detections", "Model": "model", "evaluate": "evaluate", "load": "model"}

__all__ = ["Detections", "Model", "__version__", "evaluate", "load"]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.api.{_WHERE[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
