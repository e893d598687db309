"""What nuScenes names mean: categories, channels, splits, and the words of scene descriptions."""

from __future__ import annotations

import re
from pathlib import Path

from bevkd.classes import CLASS_OF_CATEGORY
from bevkd.errors import DataError
from bevkd.io import read_json
from bevkd.splits import tune_scenes

__all__ = ["CAMERAS", "CHANNELS", "CLASS_OF_CATEGORY", "LIDAR", "RADARS", "lighting", "scene_splits", "weather"]

LIDAR = "LIDAR_TOP"
CAMERAS = ("CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_FRONT_LEFT", "CAM_BACK", "CAM_BACK_LEFT", "CAM_BACK_RIGHT")
RADARS = ("RADAR_FRONT", "RADAR_FRONT_LEFT", "RADAR_FRONT_RIGHT", "RADAR_BACK_LEFT", "RADAR_BACK_RIGHT")
CHANNELS = (LIDAR, *CAMERAS, *RADARS)

# The end of a version's name says which official splits its tables hold. `train_detect` and `train_track` are halves of
# `train` and would overlap with it, so they are no splits of the index.
_OFFICIAL = {"mini": ("mini_train", "mini_val"), "trainval": ("train", "val"), "test": ("test",)}


def scene_splits(root: Path, version: str) -> dict[str, list[str]]:
    """Split -> scene names of a data set version.

    Official versions (`v1.0-mini`, `v1.0-trainval`, `v1.0-test`) have the official lists; of `train` a seeded tenth of
    the scenes is held out as `tune`, so that nothing is ever tuned on `val` (`train+tune` is the official `train`).
    Every other version brings `<root>/<version>/splits.json`.

    Raises:
        DataError: `splits.json` is missing, malformed, puts a scene into two splits, or has a name with a `+`.
    """
    held = next((names for end, names in _OFFICIAL.items() if version.endswith(end)), None)
    if held is not None:
        official = read_json(Path(__file__).parents[1] / "splits" / "nuscenes.json")
        splits = {name: list(official[name]) for name in held}
        if "train" in splits:
            splits["tune"] = tune_scenes(splits["train"])
            splits["train"] = sorted(set(splits["train"]) - set(splits["tune"]))
        return splits
    path = root / version / "splits.json"
    splits = read_json(path)
    if not isinstance(splits, dict):
        raise DataError("must map split names to lists of scene names", file=path)
    seen: dict[str, str] = {}
    for split, scenes in splits.items():
        if "+" in split:
            raise DataError("the name of a split must not hold a +, which joins splits", file=path, field=split)
        if not isinstance(scenes, list) or not all(isinstance(name, str) for name in scenes):
            raise DataError("a split must be a list of scene names", file=path, field=split)
        for name in scenes:
            if name in seen:
                raise DataError(f"scene {name!r} is in the splits {seen[name]!r} and {split!r}", file=path, field=split)
            seen[name] = split
    return splits


def weather(description: str) -> str:
    """`rain` when the scene description speaks of rain, else `clear`."""
    return "rain" if re.search(r"\brain", description, re.IGNORECASE) else "clear"


def lighting(description: str) -> str:
    """`night` when the scene description says so, else `day`."""
    return "night" if re.search(r"\bnight\b", description, re.IGNORECASE) else "day"
