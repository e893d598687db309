"""The index columns of one Waymo segment, from its light components; range images and pictures are not decoded."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bevkd.classes import LABEL_INDEX
from bevkd.data.index import BOXES, LIDAR_SWEEPS
from bevkd.data.waymo.components import CAMERA, CAMERAS, LASER, TIME, TOP, ComponentFile, numbers, transforms
from bevkd.data.waymo.lasers import RETURNS, read_lasers
from bevkd.errors import DataError
from bevkd.geometry import quaternion_from_yaw

TYPES = {0: "unknown", 1: "vehicle", 2: "pedestrian", 3: "sign", 4: "cyclist"}
LIDAR = "LIDAR"  # all lasers together: their points come in the vehicle frame
UNLABELLED = ("testing", "domain_adaptation_")  # how folders begin of which some or all labels are not published
HARD_POINTS = 5  # an object with no more LiDAR points than this is of level 2
# Waymo cameras look along x with y to the left and z up; the index has x to the right, y down and z forward.
CAMERA_FROM_OPTICAL = np.array([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
_LIGHTING = {"day": "day", "dawn/dusk": "dusk", "night": "night"}
_WEATHER = {"sunny": "clear", "rain": "rain"}


def segment_tables(root: Path, segment: str, split: str) -> dict[str, dict[str, Any]]:
    """Columns of `frames`, `sensors` and `boxes`, numbered within the segment.

    Args:
        root: folder of the data set.
        segment: `<split folder>/<segment>`.
        split: its name in the index.

    Raises:
        DataError: a component, a column or a row is missing, a row group is broken, a pose is not finite, a box has a
            size that is not positive, or belongs to a frame that is not there.
    """
    name = segment.split("/")[1]
    file = ComponentFile.of(root, "vehicle_pose", segment)
    poses = file.read([TIME, "world_from_vehicle.transform"])
    times = poses[TIME].to_numpy()
    order = np.argsort(times, kind="stable")
    times = times[order]
    if len(times) == 0:
        raise DataError("segment has no frame", file=file.path)
    if (np.diff(times) == 0).any():
        raise DataError("two rows for one frame", file=file.path, field=TIME)
    world_from_vehicle = transforms(poses, "world_from_vehicle.transform", file.path)[order]
    words = _words(root, segment, times)
    n = len(times)
    tokens = [f"{name}_{time}" for time in times]
    _check_lidar(root, segment, times, tokens)
    sensors, keys = _sensors(root, segment, times, world_from_vehicle)
    frames = {
        "token": tokens,
        "scene": np.zeros(n, dtype=np.int32),
        "scene_name": [name] * n,
        "description": [""] * n,
        "split": [split] * n,
        "timestamp": times,
        "global_from_ego": world_from_vehicle,
        "labelled": [None] * n,
        "key": keys,
        "lidar_sweeps": [list(range(i - 1, max(-1, i - 1 - LIDAR_SWEEPS), -1)) for i in range(n)],
        "radar_sweeps": [[] for _ in range(n)],
        **words,
    }
    return {"frames": frames, "sensors": sensors, "boxes": _boxes(root, segment, times, tokens, world_from_vehicle)}


def _check_lidar(root: Path, segment: str, times: NDArray[np.int64], tokens: list[str]) -> None:
    """What reading points will need is there: range images of calibrated lasers, and the pose of the top one's pixels.

    Range images themselves are not decoded; a broken one is found when it is read.
    """
    calibrated = read_lasers(root, segment)
    for component, returns in (("lidar", RETURNS), ("lidar_pose", RETURNS[:1])):
        file = ComponentFile.of(root, component, segment)
        file.require([f"{name}.{part}" for name in returns for part in ("values", "shape")])
        keys = file.read([TIME, LASER])
        laser, time = keys[LASER].to_numpy(), keys[TIME].to_numpy()
        missing = ~np.isin(times, time[laser == TOP])
        if missing.any():
            token = tokens[int(np.argmax(missing))]
            raise DataError("component has no row for the frame", file=file.path, token=token, field=f"laser {TOP}")
        for number in np.setdiff1d(laser, list(calibrated)).tolist():
            path = ComponentFile.of(root, "lidar_calibration", segment).path
            raise DataError("calibration is missing", file=path, token=segment, field=f"laser {number}")


def _words(root: Path, segment: str, times: NDArray[np.int64]) -> dict[str, list[str]]:
    file = ComponentFile.of(root, "stats", segment)
    if not file.path.parent.is_dir():  # it holds words only
        return {name: [""] * len(times) for name in ("location", "lighting", "weather")}
    table = file.read([TIME, "location", "time_of_day", "weather"])
    rows = {row[TIME]: row for row in table.to_pylist()}
    out: dict[str, list[str]] = {"location": [], "lighting": [], "weather": []}
    for time in times.tolist():
        if time not in rows:
            raise DataError("component has no row for the frame", file=file.path, token=f"{segment}/{time}")
        row = rows[time]
        out["location"].append(row["location"] or "")
        out["lighting"].append(_LIGHTING.get((row["time_of_day"] or "").lower(), ""))
        out["weather"].append(_WEATHER.get((row["weather"] or "").lower(), ""))
    return out


def _sensors(
    root: Path, segment: str, times: NDArray[np.int64], poses: NDArray[np.float64]
) -> tuple[dict[str, Any], list[list[int]]]:
    """Columns of `sensors`, one row per frame for the LiDARs, then the cameras; and the key rows of each frame."""
    n = len(times)
    keys = [[i] for i in range(n)]
    identity = np.eye(4)
    channel, modality = [LIDAR] * n, ["lidar"] * n
    filename, stamps = [f"{segment}/{time}" for time in times], times.tolist()
    size = [(0, 0)] * n
    intrinsics, mounts, pose_of = [np.zeros((3, 3))] * n, [identity] * n, list(poses)
    for camera, time, row in _cameras(root, segment, times):
        frame = int(np.searchsorted(times, time))
        keys[frame].append(len(channel))
        channel.append(CAMERAS[camera])
        modality.append("camera")
        filename.append(f"{segment}/{time}/{camera}")
        stamps.append(row["stamp"])
        size.append(row["size"])
        intrinsics.append(row["intrinsics"])
        mounts.append(row["mount"] @ CAMERA_FROM_OPTICAL)
        pose_of.append(row["pose"])
    total = len(channel)
    columns = {
        "row": np.arange(total, dtype=np.int32),
        "token": filename,
        "scene": np.zeros(total, dtype=np.int32),
        "channel": channel,
        "modality": modality,
        "is_key": np.ones(total, dtype=bool),
        "timestamp": np.array(stamps, dtype=np.int64),
        "filename": filename,
        "width": [width for width, _ in size],
        "height": [height for _, height in size],
        "intrinsics": np.stack(intrinsics),
        "ego_from_sensor": np.stack(mounts),
        "global_from_ego": np.stack(pose_of),
    }
    return columns, keys


def _cameras(root: Path, segment: str, times: NDArray[np.int64]) -> list[tuple[int, int, dict[str, Any]]]:
    """(camera, frame time, row) by frame, then by camera; none where both folders of camera components are absent."""
    file = ComponentFile.of(root, "camera_calibration", segment)
    folders = [ComponentFile.of(root, name, segment).path.parent for name in ("camera_calibration", "camera_image")]
    if not any(folder.is_dir() for folder in folders):
        return []
    names = [f"intrinsic.{part}" for part in ("f_u", "f_v", "c_u", "c_v")]
    table = file.read([CAMERA, "extrinsic.transform", "width", "height", *names])
    matrices = transforms(table, "extrinsic.transform", file.path)
    mounts = {}
    for row, matrix in zip(table.to_pylist(), matrices, strict=True):
        fu, fv, cu, cv = (math.nan if row[name] is None else row[name] for name in names)
        if not (fu and fv) or not np.isfinite([fu, fv, cu, cv]).all():
            message = "a camera needs an invertible 3x3 matrix"
            raise DataError(message, file=file.path, token=segment, field=f"camera {row[CAMERA]}")
        mounts[row[CAMERA]] = {
            "mount": matrix,
            "size": (row["width"], row["height"]),
            "intrinsics": np.array([[fu, 0, cu], [0, fv, cv], [0, 0, 1]]),
        }
    file = ComponentFile.of(root, "camera_image", segment)
    table = file.read([TIME, CAMERA, "pose.transform", "pose_timestamp"])
    poses = transforms(table, "pose.transform", file.path)
    stamps = numbers(table, "pose_timestamp", file.path)
    out = []
    for i, (time, camera) in enumerate(zip(table[TIME].to_pylist(), table[CAMERA].to_pylist(), strict=True)):
        if camera not in CAMERAS:
            continue
        if camera not in mounts:
            path = ComponentFile.of(root, "camera_calibration", segment).path
            raise DataError("calibration is missing", file=path, token=segment, field=f"camera {camera}")
        if not np.isin(time, times):
            raise DataError("image of a frame that is not there", file=file.path, token=f"{segment}/{time}")
        stamp = time if np.isnan(stamps[i]) else round(stamps[i] * 1e6)
        out.append((camera, time, {**mounts[camera], "pose": poses[i], "stamp": stamp}))
    return sorted(out, key=lambda item: (item[1], item[0]))


def _boxes(
    root: Path, segment: str, times: NDArray[np.int64], tokens: list[str], poses: NDArray[np.float64]
) -> dict[str, Any]:
    """Columns of `boxes`. Waymo gives velocities (m/s) along the axes of the world; here they follow the vehicle's."""
    file = ComponentFile.of(root, "lidar_box", segment)
    if segment.startswith(UNLABELLED) and not file.path.exists():  # whose labels are not published
        return {name: [] for name in BOXES.names} | {"box": np.zeros((0, 9)), "rotation": np.zeros((0, 4))}
    place = [f"box.{part}" for part in ("center.x", "center.y", "center.z", "size.x", "size.y", "size.z", "heading")]
    objects = [TIME, "key.laser_object_id", "type", "num_lidar_points_in_box"]
    speed = [name for name in ("speed.x", "speed.y") if file.has(name)]
    level = [name for name in ("difficulty_level.detection",) if file.has(name)]
    table = file.read([*objects, *place, *speed, *level])
    frame = np.searchsorted(times, table[TIME].to_numpy())
    known = (frame < len(times)) & (times[np.minimum(frame, len(times) - 1)] == table[TIME].to_numpy())
    if not known.all():
        time = table[TIME][int(np.argmin(known))].as_py()
        raise DataError("box of a frame that is not there", file=file.path, token=f"{segment}/{time}", field=TIME)
    order = np.argsort(frame, kind="stable")
    table, frame = table.take(pa.array(order)), frame[order]
    n = len(table)
    box = np.full((n, 9), np.nan)
    for column, name in enumerate(place):
        box[:, column] = numbers(table, name, file.path)
    for bad, message in (
        (~np.isfinite(box[:, :7]).all(axis=1), "a box is not finite"),
        (~(box[:, 3:6] > 0).all(axis=1), "box sizes must be positive"),
    ):
        if bad.any():
            at = int(np.argmax(bad))
            raise DataError(
                message, file=file.path, token=tokens[frame[at]], field=table["key.laser_object_id"][at].as_py()
            )
    if len(speed) == 2:
        in_world = np.stack([numbers(table, name, file.path) for name in speed], axis=-1)
        box[:, 7:] = np.einsum("nji,nj->ni", poses[frame, :2, :2], in_world)
    names = [TYPES.get(kind, "unknown") for kind in table["type"].to_pylist()]
    points = np.nan_to_num(numbers(table, "num_lidar_points_in_box", file.path)).astype(np.int32)
    said = np.nan_to_num(numbers(table, level[0], file.path)) if level else np.zeros(n)
    ids = table["key.laser_object_id"].to_pylist()
    return {
        "token": [f"{tokens[f]}/{i}" for f, i in zip(frame, ids, strict=True)],
        "frame": frame.astype(np.int32),
        "scene": np.zeros(n, dtype=np.int32),
        "instance": ids,
        "category": names,
        "label": np.array([LABEL_INDEX.get(kind, -1) for kind in names], dtype=np.int8),
        "attribute": [""] * n,
        "visibility": np.zeros(n, dtype=np.int8),
        "difficulty": np.where((said == 2) | (points <= HARD_POINTS), 2, 1).astype(np.int8),
        "box": box,
        "rotation": quaternion_from_yaw(box[:, 6]),
        "num_lidar_pts": points,
        "num_radar_pts": np.zeros(n, dtype=np.int32),
    }
