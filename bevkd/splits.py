"""The `tune` split of real nuScenes: a seeded tenth of the training scenes, so that nothing is ever tuned on `val`."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

_TUNE_SEED = 2023


def tune_scenes(train: Iterable[str]) -> list[str]:
    """The scenes of the official `train` list that are held out for tuning, sorted."""
    names = sorted(train)
    picked = np.random.default_rng(_TUNE_SEED).permutation(len(names))[: len(names) // 10]
    return sorted(names[i] for i in picked)
