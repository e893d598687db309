"""Which nuScenes scenes belong to a split: one rule for indices, trainings and evaluations, that of the devkit.

Official versions have the official lists. Any other version brings `splits.json` beside its tables, split names with
lists of scene names; beside official tables such a file adds splits of other names. `tune` is a seeded tenth of the
official training scenes, so that nothing is ever tuned on `val`. Several splits are joined by `+`, as in `train+tune`.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bevkd.errors import ConfigError, DataError, nearest
from bevkd.io import read_json
from bevkd.names import check_split

if TYPE_CHECKING:
    from bevkd.data.options import Problems

# The end of a version's name says which official splits its tables hold.
SPLITS_OF_VERSION: dict[str, tuple[str, ...]] = {
    "mini": ("mini_train", "mini_val"),
    "trainval": ("train", "val", "train_detect", "train_track"),
    "test": ("test",),
}
CUSTOM = "splits.json"
REST = "train_without_tune"  # what an index of official tables calls `train`
_TUNE_SEED = 2023


def split_names(split: str) -> tuple[str, ...]:
    """The splits that an expression names: `train+tune` is both. The only place that reads such an expression.

    Raises:
        ConfigError: no name, or one twice.
    """
    names = tuple(name.strip() for name in check_split(split).split("+"))
    if len(set(names)) != len(names):
        raise ConfigError(f"split {split!r}: names a split twice")
    return names


def official_splits() -> dict[str, list[str]]:
    """Scene names of every official nuScenes split."""
    splits: dict[str, list[str]] = json.loads(files("bevkd").joinpath("data/splits/nuscenes.json").read_bytes())
    return splits


def held_by(version: str) -> tuple[str, ...]:
    """Official splits whose scenes are in the tables of a version; none for versions that are not official."""
    return next((names for end, names in SPLITS_OF_VERSION.items() if version.endswith(end)), ())


def tune_scenes(train: Iterable[str]) -> list[str]:
    """The scenes of the official `train` list that are held out for tuning, sorted."""
    names = sorted(train)
    picked = np.random.default_rng(_TUNE_SEED).permutation(len(names))[: len(names) // 10]
    return sorted(names[i] for i in picked)


def without_tune(train: Iterable[str]) -> list[str]:
    """The scenes of the official `train` list that are trained on while `tune` is held out, sorted."""
    names = list(train)
    return sorted(set(names) - set(tune_scenes(names)))


def evaluated_as(version: str, split: str) -> str:
    """What the evaluation calls a split of an index: the devkit's `train` has the scenes that `tune` holds out, too."""
    names = split_names(split)
    return "+".join(REST if name == "train" and "train" in held_by(version) else name for name in names)


def _made(held: tuple[str, ...]) -> tuple[str, ...]:
    return ("tune", REST) if "train" in held else ()


def custom_splits(
    folder: Path, scenes: Collection[str] | None = None, problems: Problems | None = None
) -> dict[str, list[str]]:
    """The splits of `splits.json` in a folder of tables; none where there is no such file beside official tables.

    Args:
        folder: of the tables.
        scenes: names of the scenes of these tables; None: not compared.
        problems: what becomes of them; default: the first is raised.

    Raises:
        DataError: the file is missing or malformed, names a scene that is not there or one that another split has, or
            gives an official name to other scenes than the official ones.
    """
    path = folder / CUSTOM
    held = held_by(folder.name)
    if held and not path.exists() and not path.is_symlink():
        return {}

    def wrong(message: str, split: str | None = None) -> None:
        error = DataError(message, file=path, field=split)
        if problems is None:
            raise error
        problems.add(error)

    content = read_json(path)
    if not isinstance(content, dict):
        raise DataError("must map split names to lists of scene names", file=path)
    official = official_splits()
    seen: dict[str, str] = {}
    for split, names in content.items():
        if "+" in split:
            raise DataError("the name of a split must not hold a +, which joins splits", file=path, field=split)
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise DataError("a split must be a list of scene names", file=path, field=split)
        if split in held and set(names) != set(official[split]):
            wrong("an official split has the official scenes; choose another name", split)
        for name in names:
            if name in seen:
                again = f"the splits {seen[name]!r} and {split!r}" if seen[name] != split else f"{split!r} twice"
                wrong(f"scene {name!r} is in {again}", split)
            if scenes is not None and name not in scenes:
                wrong(f"scene {name!r} is not in the tables{nearest(name, scenes)}", split)
            seen[name] = split
    return {split: list(names) for split, names in content.items() if split not in held}


def split_scenes(root: Path, version: str, split: str) -> tuple[list[str], bool]:
    """Scene names of a split, or of several joined by `+`, and whether all of it is official (or, as `tune`, a part).

    Raises:
        ConfigError: an official split that these tables do not hold, or a name that `splits.json` lacks.
        DataError: the folder or `splits.json` is missing, or the latter is not as it should be.
    """
    folder = root / version
    if not folder.is_dir():
        raise DataError("folder of tables is missing", file=folder)
    parts = [_one(folder, name) for name in split_names(split)]
    return list(dict.fromkeys(name for names, _ in parts for name in names)), all(official for _, official in parts)


def _one(folder: Path, split: str) -> tuple[list[str], bool]:
    held, official, version = held_by(folder.name), official_splits(), folder.name
    if split in held:
        return official[split], True
    if split == "tune" and "train" in held:
        return tune_scenes(official["train"]), True
    if split == REST and "train" in held:
        return without_tune(official["train"]), True
    if held and split in official:
        raise ConfigError(f"split {split!r} is not part of version {version!r}, which holds {', '.join(held)}")
    path = folder / CUSTOM
    custom = custom_splits(folder)
    if split not in custom:
        where = f" ({path})" if custom else ""
        known = [*custom, *held, *_made(held)]
        there = f"{nearest(split, known)}; it has: {', '.join(known) or 'none'}"
        raise ConfigError(f"unknown split {split!r} of version {version!r}{where}{there}")
    return custom[split], False
