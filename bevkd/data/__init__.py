"""Data: from files on disk, as their owners ship them, to batches of tensors.

Names are looked up on first use: what a network reads (`bevkd.data.reads`) can be known without importing torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bevkd.data.batch import Batch, Boxes, Cameras, PastCameras
    from bevkd.data.dataset import FrameDataset
    from bevkd.data.nuscenes import convert_nuscenes
    from bevkd.data.reads import Reads, reads_of
    from bevkd.data.sample import Sample, collate
    from bevkd.data.sampling import BatchPlan

__all__ = [
    "Batch",
    "BatchPlan",
    "Boxes",
    "Cameras",
    "FrameDataset",
    "PastCameras",
    "Reads",
    "Sample",
    "collate",
    "convert_nuscenes",
    "reads_of",
]

_MODULES = {
    "batch": ("Batch", "Boxes", "Cameras", "PastCameras"),
    "dataset": ("FrameDataset",),
    "nuscenes": ("convert_nuscenes",),
    "reads": ("Reads", "reads_of"),
    "sample": ("Sample", "collate"),
    "sampling": ("BatchPlan",),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
