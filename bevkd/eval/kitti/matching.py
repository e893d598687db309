"""Assignment of detections to annotations as KITTI does it, for all frames and score thresholds together.

The annotations of a frame choose in the order of the file; each takes its favourite among the detections that overlap
it enough, are above the score threshold, and are still free. What is the favourite never changes, so every annotation
has a list of preference made once, and all frames and thresholds choose side by side: first the first annotation of
every frame, then the second one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bevkd.data.kitti.objects import Floats, Ints
from bevkd.eval.groups import first_in_lists

NOBODY = -1


@dataclass(frozen=True)
class Preferences:
    """Lists of candidates, by round, then annotation, then from the best to the worst.

    Attributes:
        annotation: (P,).
        detection: (P,).
        rounds: boundaries of the rounds in these, (rounds + 1,).
    """

    annotation: Ints
    detection: Ints
    rounds: Ints


def preferences(annotation: Ints, detection: Ints, frame: Ints, *keys: Floats) -> Preferences:
    """Sort candidate pairs (P,).

    Args:
        annotation: annotation of each pair; annotations are numbered by frame, then as they choose.
        detection: detection of each pair; among equals the lower number is preferred.
        frame: frame of each pair.
        keys: what is preferred, lower values first; the first key matters most.
    """
    order = np.lexsort((detection, *reversed(keys), annotation))
    annotation, detection, frame = annotation[order], detection[order], frame[order]
    # The round of an annotation: how many of its frame that have candidates choose before it.
    first = np.flatnonzero(np.diff(annotation, prepend=-1))
    owner_frame = frame[first]
    start_of_frame = np.searchsorted(owner_frame, owner_frame, side="left")
    turn = np.arange(len(first)) - start_of_frame
    count = np.diff(np.append(first, len(annotation)))
    of_pair = np.repeat(turn, count)
    by_round = np.argsort(of_pair, kind="stable")
    edges = np.searchsorted(of_pair[by_round], np.arange(int(turn.max(initial=-1)) + 2))
    return Preferences(annotation[by_round], detection[by_round], edges)


def assign(wishes: Preferences, above: NDArray[np.bool_], annotations: int) -> tuple[Ints, NDArray[np.bool_]]:
    """Let the annotations choose.

    Args:
        wishes: who wants whom.
        above: (T, D) which detections may be chosen, under each of T thresholds.
        annotations: number of annotations.

    Returns:
        (T, annotations) the chosen detection or `NOBODY`, and (T, D) which detections were chosen.
    """
    thresholds = len(above)
    chosen = np.full((thresholds, annotations), NOBODY)
    free = above.copy()
    for begin, end in zip(wishes.rounds[:-1], wishes.rounds[1:], strict=True):
        annotation, detection = wishes.annotation[begin:end], wishes.detection[begin:end]
        starts = np.flatnonzero(np.diff(annotation, prepend=-1))
        t, _, place = first_in_lists(free[:, detection], starts)
        chosen[t, annotation[place]] = detection[place]
        free[t, detection[place]] = False
    return chosen, above & ~free
