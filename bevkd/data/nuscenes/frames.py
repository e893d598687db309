"""Sensor records in time order, and which of them make up a frame."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bevkd.data.index import LIDAR_SWEEPS, RADAR_SWEEPS
from bevkd.data.nuscenes.names import CAMERAS, CHANNELS, LIDAR, RADARS
from bevkd.data.nuscenes.tables import Table
from bevkd.data.valid import repeats
from bevkd.geometry import rotation_from_quaternion

_MICROSECONDS_APART = 250_000  # camera or radar records farther from a LiDAR sweep do not belong to its frame


@dataclass(frozen=True)
class Records:
    """Rows of `sample_data`, sorted by scene, channel and time; all arrays have one entry per record.

    Attributes:
        row: row of the table.
        scene, sample: rows of the tables `scene` and `sample`.
        calibration, ego_pose: rows of the tables `calibrated_sensor` and `ego_pose`.
        channel, modality: names.
        group: number of the (scene, channel) pair, ascending.
    """

    row: NDArray[np.int64]
    scene: NDArray[np.int64]
    sample: NDArray[np.int64]
    calibration: NDArray[np.int64]
    ego_pose: NDArray[np.int64]
    channel: NDArray[Any]
    modality: NDArray[Any]
    is_key: NDArray[np.bool_]
    timestamp: NDArray[np.int64]
    group: NDArray[np.int64]

    def select(self, which: Any) -> Records:
        """Some of the records, in the same order."""
        return Records(**{f.name: getattr(self, f.name)[which] for f in fields(self)})

    def ego_from_sensor(self, tables: dict[str, Table]) -> NDArray[np.float64]:
        """Mounting transforms (N, 4, 4)."""
        return poses(tables["calibrated_sensor"], self.calibration)

    def global_from_ego(self, tables: dict[str, Table]) -> NDArray[np.float64]:
        """Ego poses (N, 4, 4) at the records' own time stamps."""
        return poses(tables["ego_pose"], self.ego_pose)


def poses(table: Table, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """`parent_from_child` (N, 4, 4) of rows of a table with rotation and translation."""
    out = np.zeros((len(rows), 4, 4))
    out[:, :3, :3] = rotation_from_quaternion(table["rotation"][rows])
    out[:, :3, 3] = table["translation"][rows]
    out[:, 3, 3] = 1
    return out


def sort_records(tables: dict[str, Table], sample_scene: NDArray[np.int64]) -> Records:
    """All sensor records of known channels.

    Args:
        tables: the tables.
        sample_scene: row of `scene` of each row of `sample`.

    Raises:
        DataError: a record refers to nothing.
    """
    data, calibration, sensor = tables["sample_data"], tables["calibrated_sensor"], tables["sensor"]
    calibration_row = calibration.rows_of(data, "calibrated_sensor_token")
    sensor_row = sensor.rows_of(calibration, "sensor_token")[calibration_row]
    sample_row = tables["sample"].rows_of(data, "sample_token")
    pose_row = tables["ego_pose"].rows_of(data, "ego_pose_token")
    order_of = {name: i for i, name in enumerate(CHANNELS)}
    channel_rank = np.array([order_of.get(name, -1) for name in sensor["channel"]], dtype=np.int64)[sensor_row]
    scene = sample_scene[sample_row]
    order = np.lexsort((data["timestamp"], channel_rank, scene))
    order = order[channel_rank[order] >= 0]
    return Records(
        row=order,
        scene=scene[order],
        sample=sample_row[order],
        calibration=calibration_row[order],
        ego_pose=pose_row[order],
        channel=sensor["channel"][sensor_row[order]],
        modality=sensor["modality"][sensor_row[order]],
        is_key=data["is_key_frame"][order],
        timestamp=data["timestamp"][order],
        group=scene[order] * len(CHANNELS) + channel_rank[order],
    )


def frame_columns(
    tables: dict[str, Table], records: Records, present: NDArray[np.bool_], sample_scene: NDArray[np.int64]
) -> dict[str, Any]:
    """Columns of `frames` that come from sensors: one frame per row of `sample` of which a file is there, by scene and
    time.

    Args:
        tables: the tables.
        records: all records; where the LiDAR stood says where the ego vehicle was, also if its file is not there.
        present: which of them have a file. Rows of the index count these.
        sample_scene: row of `scene` of each row of `sample`.

    Raises:
        DataError: a sample without a key record of LIDAR_TOP, or with two of a sensor.
    """
    sample = tables["sample"]
    key = np.flatnonzero(records.is_key)
    again = key[repeats(records.sample[key], records.group[key])]
    data = tables["sample_data"]
    data.require(
        ~np.isin(np.arange(len(data)), records.row[again]), "sample_token", "sample has two key records of a sensor"
    )
    lidar = np.full(len(sample), -1)
    of_lidar = key[records.channel[key] == LIDAR]
    lidar[records.sample[of_lidar]] = of_lidar
    sample.require(lidar >= 0, LIDAR, "sample has no key record of LIDAR_TOP")
    number = np.where(present, np.cumsum(present) - 1, -1)  # row of the index of each record
    there = records.select(present)
    key = np.flatnonzero(there.is_key)
    key = key[np.argsort(there.sample[key], kind="stable")]
    bounds = np.searchsorted(there.sample[key], np.arange(len(sample) + 1))
    order = np.lexsort((sample["timestamp"], sample_scene))
    order = order[(np.diff(bounds) > 0)[order] & (lidar >= 0)[order]]
    keys = [key[bounds[i] : bounds[i + 1]].tolist() for i in order]
    lidar = lidar[order]
    swept = number[lidar]
    return {
        "token": sample["token"][order],
        "sample": order,
        "scene": sample_scene[order],
        "timestamp": records.timestamp[lidar],
        "global_from_ego": records.select(lidar).global_from_ego(tables),
        "key": keys,
        "lidar_sweeps": [previous(there, row, LIDAR_SWEEPS) if row >= 0 else [] for row in swept],
        "radar_sweeps": [_radar_sweeps(there, rows) for rows in keys],
        "_tables": tables,
    }


def previous(records: Records, row: int, count: int) -> list[int]:
    """Up to `count` records of the same channel and scene before `row`, newest first."""
    low = max(0, row - count)
    before = np.arange(low, row)[::-1]
    return before[records.group[before] == records.group[row]].tolist()


def _radar_sweeps(records: Records, rows: list[int]) -> list[int]:
    return [
        before for row in rows if records.modality[row] == "radar" for before in previous(records, row, RADAR_SWEEPS)
    ]


def sweep_frames(records: Records, key_frames: dict[str, Any]) -> dict[str, Any] | None:
    """Columns of `unlabelled`: the LiDAR sweeps between keyframes with the nearest record of every other sensor.

    None where no camera has records between keyframes. Sweeps for which a camera has no record nearby are left out.
    """
    if not ((records.modality == "camera") & ~records.is_key).any():
        return None
    tables: dict[str, Table] = key_frames["_tables"]
    lidar = np.flatnonzero((records.channel == LIDAR) & ~records.is_key)
    n_channels = len(CHANNELS)
    keys = [[int(row)] for row in lidar]
    complete = np.ones(len(lidar), dtype=bool)
    for scene in np.unique(records.scene[lidar]):
        mine = np.flatnonzero(records.scene[lidar] == scene)
        time = records.timestamp[lidar[mine]]
        for channel in (*CAMERAS, *RADARS):
            group = scene * n_channels + CHANNELS.index(channel)
            low, high = np.searchsorted(records.group, [group, group + 1])
            if low == high:
                continue
            stamps = records.timestamp[low:high]
            right = np.clip(np.searchsorted(stamps, time), 1, max(len(stamps) - 1, 1))
            left = right - 1
            right = np.minimum(right, len(stamps) - 1)
            nearest = np.where(time - stamps[left] <= stamps[right] - time, left, right)
            near = np.abs(stamps[nearest] - time) <= _MICROSECONDS_APART
            if channel in CAMERAS:
                complete[mine] &= near
            for i, row, good in zip(mine, low + nearest, near, strict=True):
                if good:
                    keys[i].append(int(row))
    kept = np.flatnonzero(complete)
    lidar = lidar[kept]
    return {
        "token": tables["sample_data"]["token"][records.row[lidar]],
        "scene": records.scene[lidar],
        "timestamp": records.timestamp[lidar],
        "global_from_ego": records.select(lidar).global_from_ego(tables),
        "key": [keys[i] for i in kept],
        "lidar_sweeps": [previous(records, int(row), LIDAR_SWEEPS) for row in lidar],
        "radar_sweeps": [_radar_sweeps(records, keys[i]) for i in kept],
    }
