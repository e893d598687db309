"""Which earlier records of the cameras belong to a frame, set by set (DistillBEV spec, 3.1)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bevkd.data.index import PAST_SETS
from bevkd.data.nuscenes.frames import Records

# Two sets of a list are at least so far apart: every third record of cameras that run at 12 Hz, as by the published
# rule, or every keyframe where nothing lies between them. Two and a half periods, for no camera is quite regular.
_APART_US = 208_333
# Records farther from the time of a set do not belong to it; at 12 Hz a record that is missing has neighbours nearby.
_TOGETHER_US = 100_000

Rows = NDArray[np.int64]


def past_sets(records: Records, keys: Sequence[Sequence[int]]) -> pa.ListArray:
    """For each frame rows of `records`: set after set, newest first, at most `PAST_SETS` of them; in each set a record
    per camera of the frame, in the order of `keys`.

    The first camera says when there is a set. Of every other one the record belongs to it that is nearest to that
    time, shifted by what lies between the two cameras in the frame itself; where one of them has none nearby, because
    it is not there, the next older time is tried.

    Args:
        records: those that have a file, sorted by scene, channel and time.
        keys: (F,) for each frame the rows of its own records.
    """
    cameras = [[row for row in rows if records.modality[row] == "camera"] for rows in keys]
    groups: dict[tuple[int, ...], list[int]] = {}  # of frames of one scene with the same cameras
    for frame, rows in enumerate(cameras):
        if rows:
            groups.setdefault(tuple(records.group[rows].tolist()), []).append(frame)
    counts = np.zeros(len(keys), dtype=np.int64)
    found: list[tuple[NDArray[np.int64], NDArray[np.int32]]] = []
    for channels, frames in groups.items():
        members = np.array(frames)
        sets = _of_group(records, channels, np.array([cameras[frame] for frame in frames]))
        there = sets[:, :, 0] >= 0
        counts[members] = there.sum(axis=1) * len(channels)
        owner = np.broadcast_to(members[:, None], there.shape)[there]
        found.append((np.repeat(owner, len(channels)), sets[there].reshape(-1).astype(np.int32)))
    owners = np.concatenate([np.zeros(0, np.int64), *(owner for owner, _ in found)])
    values = np.concatenate([np.zeros(0, np.int32), *(part for _, part in found)])
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values[np.argsort(owners, kind="stable")]))


def _of_group(records: Records, channels: tuple[int, ...], keys: Rows) -> Rows:
    """Sets (F, PAST_SETS, N) of frames of one scene that have the same N cameras, -1 beyond the last one.

    Args:
        records: all of them.
        channels: (N,) the group of each camera.
        keys: (F, N) rows of the frames' own images.
    """
    bounds = [np.searchsorted(records.group, [group, group + 1]) for group in channels]
    times = [records.timestamp[low:high] for low, high in bounds]
    own = records.timestamp[keys]  # (F, N)
    out = np.full((len(keys), PAST_SETS, len(channels)), -1, dtype=np.int64)
    filled = np.zeros(len(keys), dtype=np.int64)
    before = own[:, 0] - _APART_US  # the next set is not younger
    active = np.arange(len(keys))
    while len(active):
        at = np.searchsorted(times[0], before[active], side="right") - 1
        active, at = active[at >= 0], at[at >= 0]
        if len(active) == 0:
            break
        time = times[0][at]
        rows = np.empty((len(active), len(channels)), dtype=np.int64)
        rows[:, 0] = bounds[0][0] + at
        complete = np.ones(len(active), dtype=bool)
        for n in range(1, len(channels)):
            wanted = time + own[active, n] - own[active, 0]
            near = _nearest(times[n], wanted)
            complete &= np.abs(times[n][near] - wanted) <= _TOGETHER_US
            rows[:, n] = bounds[n][0] + near
        whole = active[complete]
        out[whole, filled[whole]] = rows[complete]
        filled[whole] += 1
        before[active] = np.where(complete, time - _APART_US, time - 1)
        active = active[filled[active] < PAST_SETS]
    return out


def _nearest(times: Rows, wanted: Rows) -> Rows:
    """Positions of the times (ascending, at least one) nearest to those that are wanted."""
    right = np.clip(np.searchsorted(times, wanted), 0, len(times) - 1)
    left = np.maximum(right - 1, 0)
    return np.where(wanted - times[left] <= times[right] - wanted, left, right)
