"""Which scenes belong to a split: the official lists, or `splits.json` beside the tables of any other version."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from bevkd.errors import ConfigError, DataError, nearest
from bevkd.eval.nuscenes.jsonio import loads
from bevkd.io import read_json
from bevkd.splits import split_names, tune_scenes

# The end of a version's name says which official splits its tables hold.
SPLITS_OF_VERSION: dict[str, tuple[str, ...]] = {
    "mini": ("mini_train", "mini_val"),
    "trainval": ("train", "val", "train_detect", "train_track"),
    "test": ("test",),
}


def official_splits() -> dict[str, list[str]]:
    """Scene names of every official nuScenes split."""
    splits: dict[str, list[str]] = loads(files("bevkd").joinpath("data/splits/nuscenes.json").read_bytes())
    return splits


def split_scenes(root: Path, version: str, split: str) -> tuple[list[str], bool]:
    """Scene names of `split` (or of several joined by `+`), and whether it is official or, as `tune`, part of one.

    Raises:
        ConfigError: an official split that these tables do not hold, or a name that `splits.json` lacks.
        DataError: the folder or `splits.json` is missing or the latter is not {split: [scene names]}.
    """
    if not (root / version).is_dir():
        raise DataError("folder of tables is missing", file=root / version)
    parts = [_scenes_of(root, version, name) for name in split_names(split)]
    return list(dict.fromkeys(name for scenes, _ in parts for name in scenes)), all(official for _, official in parts)


def _scenes_of(root: Path, version: str, split: str) -> tuple[list[str], bool]:
    held = next((names for end, names in SPLITS_OF_VERSION.items() if version.endswith(end)), ())
    official = official_splits()
    if split in held:
        return official[split], True
    if split == "tune" and "train" in held:
        return tune_scenes(official["train"]), True
    if held and split in official:
        raise ConfigError(f"split {split!r} is not part of version {version!r}, which holds {', '.join(held)}")
    path = root / version / "splits.json"
    if held and not path.exists():
        known = [*held, *(["tune"] if "train" in held else [])]
        raise ConfigError(f"unknown split {split!r} of version {version!r}{nearest(split, known)}")
    custom = read_json(path)
    if not isinstance(custom, dict):
        raise DataError("must map split names to lists of scene names", file=path)
    if split not in custom:
        raise ConfigError(f"unknown split {split!r} of version {version!r} ({path}){nearest(split, custom)}")
    scenes = custom[split]
    if not isinstance(scenes, list) or not all(isinstance(name, str) for name in scenes):
        raise DataError("a split must be a list of scene names", file=path, field=split)
    return scenes, False
