from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from bevkd.data import BatchPlan
from bevkd.data.sampling import cbgs_list
from bevkd.errors import ConfigError


def test_a_step_is_a_pure_function() -> None:
    plans = [BatchPlan(range(10), range(10, 40), 4, 2, seed=3) for _ in range(2)]
    forward = [plans[0].batch(step) for step in range(30)]
    backward = [plans[1].batch(step) for step in reversed(range(30))]
    assert forward == backward[::-1]
    assert forward != [BatchPlan(range(10), range(10, 40), 4, 2, seed=4).batch(step) for step in range(30)]


def test_streams_are_whole_permutations() -> None:
    plan = BatchPlan(range(10), range(10, 17), 5, 2, seed=0)
    labelled = [item for step in range(20) for item in plan.batch(step)[:3]]
    unlabelled = [item for step in range(21) for item in plan.batch(step)[3:]]
    assert plan.steps_per_epoch == 4
    for stream, frames in ((labelled, range(10)), (unlabelled, range(10, 17))):
        for epoch in range(6):
            assert sorted(i for i, e in stream if e == epoch) == list(frames)
        orders = [tuple(i for i, e in stream if e == epoch) for epoch in range(3)]
        assert len(set(orders)) == 3


@pytest.mark.parametrize("world", [1, 2, 4])
def test_shards_divide_a_batch(world: int) -> None:
    plan = BatchPlan(range(50), range(50, 80), 8, 4, seed=1)
    for step in range(5):
        shards = [plan.shard(step, rank, world) for rank in range(world)]
        assert Counter(item for shard in shards for item in shard) == Counter(plan.batch(step))
        assert all(sum(i < 50 for i, _ in shard) == 4 // world for shard in shards)
    with pytest.raises(ConfigError, match="divided"):
        plan.shard(0, 0, 3)


def test_streams_that_are_needed_must_not_be_empty() -> None:
    with pytest.raises(ConfigError, match="unlabelled"):
        BatchPlan(range(3), [], 4, 1)
    with pytest.raises(ConfigError, match="labelled"):
        BatchPlan([], range(3), 4, 1)
    with pytest.raises(ConfigError, match="do not fit"):
        BatchPlan(range(3), range(3), 4, 5)
    assert BatchPlan([], range(3), 2, 2).steps_per_epoch == 2


def test_cbgs_gives_every_class_the_same_share() -> None:
    lists = [list(range(80)), list(range(80, 100)), [7]]
    entries = cbgs_list(lists, seed=0)
    assert len(entries) == 3 * (101 // 3)
    owner = np.select([entries >= 80, entries == 7], [1, 2], 0)
    counts = np.bincount(owner, minlength=3)
    assert counts[1] == 33
    assert counts[2] >= 33
    np.testing.assert_array_equal(entries, cbgs_list(lists, seed=0))
    assert (entries != cbgs_list(lists, seed=1)).any()
    with pytest.raises(ConfigError, match="there are none"):
        cbgs_list([[], []], seed=0)


def test_cbgs_replaces_the_labelled_stream() -> None:
    lists = [[0, 1, 2, 3], [9]]
    plan = BatchPlan(range(10), [], 5, seed=0, class_lists=lists)
    drawn = [i for step in range(plan.steps_per_epoch) for i, _ in plan.batch(step)]
    assert set(drawn) <= {0, 1, 2, 3, 9}
    assert drawn.count(9) >= 2


def test_a_frame_used_twice_in_an_epoch_is_augmented_anew() -> None:
    """Class-balanced epochs repeat frames: each use counts, so that no augmentation is seen twice in a row."""
    plan = BatchPlan(range(4), [], 3, seed=0, class_lists=[[0], [0, 1, 2, 3], [0]])
    uses: dict[int, list[int]] = {}
    for step in range(40):
        for frame, use in plan.batch(step):
            uses.setdefault(frame, []).append(use)
    assert max(map(len, uses.values())) >= 2 * min(map(len, uses.values()))  # frames of rare classes come more often
    assert all(sorted(numbers) == list(range(len(numbers))) for numbers in uses.values())
