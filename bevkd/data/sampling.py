"""Which frames make up a step: `BatchPlan` is a pure function of the step, so any step can be replayed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bevkd.errors import ConfigError

_LABELLED, _UNLABELLED, _CBGS = 11, 12, 13


def cbgs_list(class_lists: Sequence[Sequence[int]], seed: int) -> NDArray[np.int64]:
    """Class-balanced sampling: every class gets the same number of entries, drawn from its frames with replacement.

    Args:
        class_lists: for each class the frames that contain it.
        seed: of the draw, which is made once for all epochs.

    Returns:
        Frame indices, about as many as the lists hold together.

    Raises:
        ConfigError: no class occurs in any frame.
    """
    total = sum(len(frames) for frames in class_lists)
    if total == 0:
        raise ConfigError("class-balanced sampling needs frames with boxes, and there are none")
    rng = np.random.default_rng([_CBGS, seed])
    each = max(1, total // len(class_lists))
    drawn = [rng.choice(np.asarray(frames), each, replace=True) for frames in class_lists if len(frames)]
    return np.concatenate(drawn).astype(np.int64)


class BatchPlan:
    """Batches of (frame index, epoch); the first entries of a batch are labelled frames, the last ones unlabelled.

    Labelled and unlabelled frames are separate endless streams, each a new permutation per epoch. A batch may begin in
    one epoch and end in the next, so no frame is ever left out.

    Args:
        labelled_idx, unlabelled_idx: frame indices.
        batch_size: frames per global batch.
        unlabelled_per_batch: how many of them come from `unlabelled_idx`.
        seed: of the permutations.
        class_lists: for class-balanced sampling, the labelled frames that contain each class; they replace
            `labelled_idx`.

    Raises:
        ConfigError: a stream that the batches need has no frame, or the sizes do not fit.
    """

    def __init__(
        self,
        labelled_idx: Sequence[int] | NDArray[np.int64],
        unlabelled_idx: Sequence[int] | NDArray[np.int64],
        batch_size: int,
        unlabelled_per_batch: int = 0,
        seed: int = 0,
        class_lists: Sequence[Sequence[int]] | None = None,
    ) -> None:
        if not 0 <= unlabelled_per_batch <= batch_size or batch_size < 1:
            raise ConfigError(f"{unlabelled_per_batch} unlabelled frames do not fit into batches of {batch_size}")
        labelled = cbgs_list(class_lists, seed) if class_lists is not None else np.asarray(labelled_idx, dtype=np.int64)
        unlabelled = np.asarray(unlabelled_idx, dtype=np.int64)
        self.batch_size, self.seed = batch_size, seed
        self._parts = (
            (_LABELLED, labelled, batch_size - unlabelled_per_batch),
            (_UNLABELLED, unlabelled, unlabelled_per_batch),
        )
        for stream, frames, count in self._parts:
            if count and not len(frames):
                kind = "labelled" if stream == _LABELLED else "unlabelled"
                raise ConfigError(f"batches need {count} {kind} frames, and the data set has none")
        self._repeats = {stream: np.unique(frames, return_counts=True) for stream, frames, _ in self._parts}
        self._orders: dict[tuple[int, int], tuple[NDArray[np.int64], NDArray[np.int64]]] = {}

    @property
    def steps_per_epoch(self) -> int:
        """Steps after which every labelled frame (or unlabelled one, where batches hold no other) was used once."""
        _, frames, count = self._parts[0] if self._parts[0][2] else self._parts[1]
        return -(-len(frames) // count)

    def batch(self, step: int) -> list[tuple[int, int]]:
        """(frame index, number of its earlier uses) of every frame of a step, a pure function of the step.

        The number of uses decides the augmentation. It is the epoch where an epoch uses every frame once; with
        class-balanced sampling it uses some of them several times, each time under another augmentation.
        """
        out: list[tuple[int, int]] = []
        for stream, frames, count in self._parts:
            for position in range(step * count, (step + 1) * count):
                epoch, place = divmod(position, len(frames))
                members, uses = self._order(stream, epoch, frames)
                out.append((int(members[place]), int(uses[place])))
        return out

    def shard(self, step: int, rank: int, world_size: int) -> list[tuple[int, int]]:
        """The part of a step's batch that one of `world_size` processes works on.

        Raises:
            ConfigError: the batch cannot be divided evenly.
        """
        if self.batch_size % world_size:
            raise ConfigError(
                f"a batch of {self.batch_size} frames cannot be divided among {world_size} processes or parts"
            )
        return self.batch(step)[rank::world_size]

    def _order(self, stream: int, epoch: int, frames: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The frames of an epoch in the order of their use, and how often each was used before."""
        if (stream, epoch) not in self._orders:
            if len(self._orders) >= 8:  # only the newest epochs are asked for again
                self._orders.clear()
            order = np.random.default_rng([stream, self.seed, epoch]).permutation(len(frames))
            members = frames[order]
            known, counts = self._repeats[stream]
            number = np.searchsorted(known, members)
            by_frame = np.argsort(number, kind="stable")
            start = np.cumsum(counts) - counts
            rank = np.empty(len(members), dtype=np.int64)
            rank[by_frame] = np.arange(len(members)) - start[number[by_frame]]
            self._orders[stream, epoch] = (members, epoch * counts[number] + rank)
        return self._orders[stream, epoch]
