"""Pairing the members of equal groups, such as the boxes of one frame."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


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
