"""What nuScenes names mean: categories, channels, splits, and the words of scene descriptions."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

from bevkd.classes import CLASS_OF_CATEGORY
from bevkd.data.options import Problems
from bevkd.splits import custom_splits, held_by, official_splits, tune_scenes, without_tune

__all__ = [
    "CAMERAS",
    "CHANNELS",
    "CLASS_OF_CATEGORY",
    "LIDAR",
    "RADARS",
    "lighting",
    "scene_lists",
    "scene_splits",
    "weather",
]

LIDAR = "LIDAR_TOP"
CAMERAS = ("CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_FRONT_LEFT", "CAM_BACK", "CAM_BACK_LEFT", "CAM_BACK_RIGHT")
RADARS = ("RADAR_FRONT", "RADAR_FRONT_LEFT", "RADAR_FRONT_RIGHT", "RADAR_BACK_LEFT", "RADAR_BACK_RIGHT")
CHANNELS = (LIDAR, *CAMERAS, *RADARS)
_HALVES = ("train_detect", "train_track")  # of `train`


def scene_splits(
    root: Path, version: str, scenes: Collection[str] | None = None, problems: Problems | None = None
) -> dict[str, list[str]]:
    """Split -> scene names of a data set version; a scene is in one of them at most.

    Official versions (`v1.0-mini`, `v1.0-trainval`, `v1.0-test`) have the official lists; of `train` a seeded tenth of
    the scenes is held out as `tune`, so that nothing is ever tuned on `val` (`train+tune` is the official `train`).
    Every other version brings `<root>/<version>/splits.json`. Splits that overlap with these are `scene_lists`.

    Args:
        root, version: of the data set.
        scenes: names of its scenes, with which those of `splits.json` are compared.
        problems: what becomes of them.

    Raises:
        DataError: `splits.json` is missing, malformed, puts a scene into two splits, or names one that is not there.
    """
    held = held_by(version)
    if not held:
        return custom_splits(root / version, scenes, problems)
    official = official_splits()
    splits = {name: list(official[name]) for name in held if name not in _HALVES}
    if "train" in splits:
        splits["tune"] = tune_scenes(splits["train"])
        splits["train"] = without_tune(splits["train"])
    return splits


def scene_lists(
    root: Path, version: str, scenes: Collection[str] | None = None, problems: Problems | None = None
) -> dict[str, list[str]]:
    """Further splits of an official version, whose scenes are in those of `scene_splits` as well: the halves of the
    official `train`, and what `splits.json` adds. Arguments and errors as there.
    """
    held = held_by(version)
    if not held:
        return {}
    official = official_splits()
    halves = {name: list(official[name]) for name in held if name in _HALVES}
    return halves | custom_splits(root / version, scenes, problems)


def weather(description: str) -> str:
    """`rain` when the scene description speaks of rain, else `clear`."""
    return "rain" if re.search(r"\brain", description, re.IGNORECASE) else "clear"


def lighting(description: str) -> str:
    """`night` when the scene description says so, else `day`."""
    return "night" if re.search(r"\bnight\b", description, re.IGNORECASE) else "day"
