"""Pairing the members of equal groups, such as the boxes of one frame."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


def first_in_lists(good: NDArray[np.bool_], starts: Ints) -> tuple[Ints, Ints, Ints]:
    """The first good member of each of several lists laid end to end, in many cases side by side.

    Args:
        good: (T, N).
        starts: (L,) where each list begins in N, ascending from 0.

    Returns:
        Case, list and place in N of each first member, (M,); lists without a good member are left out.
    """
    members = good.shape[1]
    if members == 0:
        empty = np.zeros(0, dtype=np.int64)
        return empty, empty, empty
    first = np.minimum.reduceat(np.where(good, np.arange(members), members), starts, axis=1)
    case, which = np.nonzero(first < members)
    return case, which, first[case, which]


class Groups:
    """Members sorted by their group, ready to be paired.

    Args:
        group: (N,) group of each member, from 0.
        n_groups: number of groups.
    """

    def __init__(self, group: Ints, n_groups: int) -> None:
        self._order = np.argsort(group, kind="stable")
        self._start = np.concatenate([[0], np.cumsum(np.bincount(group, minlength=n_groups))])

    def pairs(self, group: Ints) -> tuple[Ints, Ints]:
        """All pairs (i, j) where i, of group `group[i]`, and member j are of one group; by i, then j."""
        first = self._start[group]
        count = self._start[group + 1] - first
        i = np.repeat(np.arange(len(group)), count)
        place = np.arange(len(i)) + np.repeat(first - (np.cumsum(count) - count), count)
        return i, self._order[place]
