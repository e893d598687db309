"""Names of splits: several are joined by `+`, as in `train+tune`; and the `tune` split of real nuScenes.

`tune` is a seeded tenth of the training scenes, so that nothing is ever tuned on `val`.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from bevkd.errors import ConfigError

_TUNE_SEED = 2023


def split_names(split: str) -> tuple[str, ...]:
    """The splits that an expression names: `train+tune` is both. The only place that reads such an expression.

    Raises:
        ConfigError: no name, or one twice.
    """
    names = tuple(name.strip() for name in split.split("+"))
    if not all(names):
        raise ConfigError(f"split {split!r}: wants names joined by +, such as train+tune")
    if len(set(names)) != len(names):
        raise ConfigError(f"split {split!r}: names a split twice")
    return names


def tune_scenes(train: Iterable[str]) -> list[str]:
    """The scenes of the official `train` list that are held out for tuning, sorted."""
    names = sorted(train)
    picked = np.random.default_rng(_TUNE_SEED).permutation(len(names))[: len(names) // 10]
    return sorted(names[i] for i in picked)
