"""The published lists of labelled keyframes: which training frames carry boxes in the label-poor experiments."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bevkd.classes import CLASSES
from bevkd.errors import DataError

_DRAWS = 200


def draw_labelled(
    frames: list[dict[str, dict[str, int]]], count: int, subsets: int, seed: int, classes: Sequence[str] = CLASSES
) -> dict[str, list[str]]:
    """Lists of `count` sample tokens, one list per subset, at most one keyframe per scene where that is possible.

    Of many random draws the one is kept in which the scarcest class has most objects: every class can be learnt.

    Args:
        frames: per training scene, sample token -> number of objects with LiDAR points per class.
        count, subsets: frames per list, and lists.
        seed: of the draw.
        classes: those that have to occur.

    Raises:
        DataError: a class occurs in no training keyframe, or not in a drawn subset.
    """
    scenes = [sorted(scene) for scene in frames]
    table = {name: np.array([c.get(k, 0) for k in classes]) for scene in frames for name, c in scene.items()}
    present = sum(table.values(), np.zeros(len(classes), dtype=int))
    if not present.all():
        missing = ", ".join(c for c, n in zip(classes, present, strict=True) if n == 0)
        raise DataError(f"no training keyframe shows any of: {missing}", field="labelled")
    out: dict[str, list[str]] = {}
    for subset in range(subsets):
        rng = np.random.default_rng(np.random.SeedSequence([seed, 0x1ABE1, subset]))
        best: tuple[int, list[str]] = (-1, [])
        for _ in range(_DRAWS):
            chosen = _draw(scenes, count, rng)
            scarcest = int(np.sum([table[name] for name in chosen], axis=0).min())
            if scarcest > best[0]:
                best = (scarcest, chosen)
        if best[0] == 0:
            raise DataError(f"{count} labelled keyframes cannot show every class", field=f"labelled.{subset}")
        out[str(subset)] = best[1]
    return out


def _draw(scenes: list[list[str]], count: int, rng: np.random.Generator) -> list[str]:
    """One frame of each scene in random order, then a second one, and so on."""
    shuffled = [list(rng.permutation(scene)) for scene in scenes]
    chosen: list[str] = []
    for turn in range(max(len(scene) for scene in scenes)):
        for i in rng.permutation(len(scenes)):
            if turn < len(shuffled[i]) and len(chosen) < count:
                chosen.append(str(shuffled[i][turn]))
    return sorted(chosen)
