"""The index columns of one Waymo segment, from its light components; range images and pictures are not decoded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bevkd.classes import LABEL_INDEX
from bevkd.data import valid
from bevkd.data.checks import check_centre, check_size
from bevkd.data.index import BOXES, LIDAR_SWEEPS
from bevkd.data.options import ConvertOptions
from bevkd.data.waymo.components import (
    CAMERA,
    CAMERAS,
    LASER,
    TIME,
    TOP,
    ComponentFile,
    numbers,
    transforms,
    whole_numbers,
    words,
)
from bevkd.data.waymo.lasers import RETURNS, read_lasers
from bevkd.data.waymo.segment import Segment
from bevkd.errors import DataError
from bevkd.geometry import quaternion_from_yaw

TYPES = {0: "unknown", 1: "vehicle", 2: "pedestrian", 3: "sign", 4: "cyclist"}
LIDAR = "LIDAR"  # all lasers together: their points come in the vehicle frame
UNLABELLED = ("testing", "domain_adaptation_")  # how folders begin of which some or all labels are not published
OF_SENSOR = {"lidar": ("lidar", "lidar_pose", "lidar_calibration"), "camera": ("camera_calibration", "camera_image")}
HARD_POINTS = 5  # an object with no more LiDAR points than this is of level 2
# Waymo cameras look along x with y to the left and z up; the index has x to the right, y down and z forward.
CAMERA_FROM_OPTICAL = np.array([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
_LIGHTING = {"day": "day", "dawn/dusk": "dusk", "night": "night"}
_WEATHER = {"sunny": "clear", "rain": "rain"}


def without_sensor(root: Path, segment: str, sensor: str, partial: bool = False) -> bool:
    """Whether the components of a sensor ("lidar", "camera") of a segment were not downloaded: none of them is there.

    Where parts may be missing (`partial`): not all are there.
    """
    there = [ComponentFile.of(root, name, segment).there for name in OF_SENSOR[sensor]]
    return not all(there) if partial else not any(there)


def without_labels(root: Path, segment: str) -> bool:
    """Whether a segment has no file of labels."""
    return not ComponentFile.of(root, "lidar_box", segment).there


def segment_tables(
    root: Path, segment: str, split: str, options: ConvertOptions | None = None
) -> dict[str, dict[str, Any]]:
    """Columns of `frames`, `sensors` and `boxes`, numbered within the segment.

    Args:
        root: folder of the data set.
        segment: `<split folder>/<segment>`.
        split: its name in the index.
        options: where the data set differs from Waymo's rules.

    Raises:
        DataError: a component, a column or a row is missing, a row group is broken, a pose is not finite, a box has a
            size that is not positive, or belongs to a frame that is not there.
    """
    options = options or ConvertOptions()
    problems = options.problems
    name = segment.split("/")[1]
    file = ComponentFile.of(root, "vehicle_pose", segment)
    poses = file.read([TIME, "world_from_vehicle.transform"])
    (times,) = file.keys(poses, TIME)
    order = np.argsort(times, kind="stable")
    times = times[order]
    if len(times) == 0:
        raise DataError("segment has no frame", file=file.path)
    if not valid.within(times, valid.TIME_US, 0).all():
        raise DataError("no time stamp", file=file.path, field=TIME)
    world_from_vehicle = transforms(poses, "world_from_vehicle.transform", file.path, valid.GLOBAL_M)[order]
    said: dict[str, list[str]] = {}
    with problems.here():
        said = _words(root, segment, times)
    n = len(times)
    tokens = [f"{name}_{time}" for time in times]
    lidar = not without_sensor(root, segment, "lidar", options.partial)
    with problems.here():
        if lidar:
            _check_lidar(root, segment, times, tokens)
    sensors: dict[str, Any] = {}
    keys: list[list[int]] = []
    with problems.here():
        sensors, keys = _sensors(root, segment, times, world_from_vehicle, lidar, options)
    boxes = {}
    with problems.here():
        boxes = _boxes(root, segment, times, tokens, world_from_vehicle, options)
    problems.check()
    # Where sweeps are not there, neither are earlier ones.
    earlier = [list(range(i - 1, max(-1, i - 1 - LIDAR_SWEEPS), -1)) if lidar else [] for i in range(n)]
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
        "lidar_sweeps": earlier,
        "radar_sweeps": [[] for _ in range(n)],
        **said,
    }
    return {"frames": frames, "sensors": sensors, "boxes": boxes}


def _check_lidar(root: Path, segment: str, times: NDArray[np.int64], tokens: list[str]) -> None:
    """What reading points will need is there: range images of calibrated lasers, and the pose of the top one's pixels.

    Range images themselves are not decoded; a broken one is found when it is read.
    """
    calibrated = read_lasers(root, segment)
    for component, returns in (("lidar", RETURNS), ("lidar_pose", RETURNS[:1])):
        file = ComponentFile.of(root, component, segment)
        file.require([f"{name}.{part}" for name in returns for part in ("values", "shape")])
        laser, time = file.keys(file.read([TIME, LASER]), LASER, TIME)
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
    (known,) = file.keys(table, TIME)
    rows = {time: i for i, time in enumerate(known.tolist())}
    location, light, sky = (words(table, name, file.path) for name in ("location", "time_of_day", "weather"))
    out: dict[str, list[str]] = {"location": [], "lighting": [], "weather": []}
    for time in times.tolist():
        if time not in rows:
            raise DataError("component has no row for the frame", file=file.path, token=f"{segment}/{time}")
        row = rows[time]
        out["location"].append(location[row])
        out["lighting"].append(_LIGHTING.get(light[row].lower(), ""))
        out["weather"].append(_WEATHER.get(sky[row].lower(), ""))
    return out


def _sensors(
    root: Path,
    segment: str,
    times: NDArray[np.int64],
    poses: NDArray[np.float64],
    lidar: bool,
    options: ConvertOptions,
) -> tuple[dict[str, Any], list[list[int]]]:
    """Columns of `sensors`, one row per frame for the LiDARs, then the cameras; and the key rows of each frame."""
    n = len(times) if lidar else 0
    keys: list[list[int]] = [[i] if lidar else [] for i in range(len(times))]
    identity = np.eye(4)
    channel, modality = [LIDAR] * n, ["lidar"] * n
    filename, stamps = [f"{segment}/{time}" for time in times[:n]], times[:n].tolist()
    size = [(0, 0)] * n
    intrinsics, mounts, pose_of = [np.zeros((3, 3))] * n, [identity] * n, list(poses[:n])
    for camera, time, row in _cameras(root, segment, times, options):
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
        "intrinsics": np.array(intrinsics).reshape(-1, 3, 3),
        "ego_from_sensor": np.array(mounts).reshape(-1, 4, 4),
        "global_from_ego": np.array(pose_of).reshape(-1, 4, 4),
    }
    return columns, keys


def _cameras(
    root: Path, segment: str, times: NDArray[np.int64], options: ConvertOptions
) -> list[tuple[int, int, dict[str, Any]]]:
    """(camera, frame time, row) by frame, then by camera; none where the camera components are absent."""
    file = ComponentFile.of(root, "camera_calibration", segment)
    if without_sensor(root, segment, "camera", options.partial):
        return []
    names = [f"intrinsic.{part}" for part in ("f_u", "f_v", "c_u", "c_v")]
    table = file.read([CAMERA, "extrinsic.transform", "width", "height", *names])
    matrices = transforms(table, "extrinsic.transform", file.path, valid.MOUNT_M)
    (numbered,) = file.keys(table, CAMERA)
    width, height = (whole_numbers(table, name, file.path) for name in ("width", "height"))
    fu, fv, cu, cv = (numbers(table, name, file.path) for name in names)
    zero, one = np.zeros(len(fu)), np.ones(len(fu))
    intrinsics = np.stack([fu, zero, cu, zero, fv, cv, zero, zero, one], axis=-1).reshape(-1, 3, 3)
    for good, field, message in (
        (valid.good_intrinsics(intrinsics), "intrinsic", "a camera needs an invertible 3x3 matrix"),
        (
            valid.good_image_sizes(width, height),
            "width",
            f"images cannot have {width.tolist()} x {height.tolist()} pixels",
        ),
    ):
        if not good.all():
            camera = numbered[int(np.argmin(good))]
            raise DataError(message, file=file.path, token=segment, field=f"camera {camera}: {field}")
    mounts: dict[int, dict[str, Any]] = {
        camera: {
            "mount": matrices[i],
            "size": (int(width[i]), int(height[i])),
            "intrinsics": intrinsics[i],
        }
        for i, camera in enumerate(numbered.tolist())
    }
    file = ComponentFile.of(root, "camera_image", segment)
    table = file.read([TIME, CAMERA, "pose.transform", "pose_timestamp"])
    poses = transforms(table, "pose.transform", file.path, valid.GLOBAL_M)
    stamps = numbers(table, "pose_timestamp", file.path)
    if not (valid.within(stamps, valid.TIME_US * 1e-6, 0) | np.isnan(stamps)).all():
        raise DataError("no time stamp", file=file.path, field="pose_timestamp")
    out = []
    taken, cameras = file.keys(table, TIME, CAMERA)
    for i, (time, camera) in enumerate(zip(taken.tolist(), cameras.tolist(), strict=True)):
        if camera not in CAMERAS:
            continue
        if camera not in mounts:
            path = ComponentFile.of(root, "camera_calibration", segment).path
            raise DataError("calibration is missing", file=path, token=segment, field=f"camera {camera}")
        if not np.isin(time, times):
            raise DataError("image of a frame that is not there", file=file.path, token=f"{segment}/{time}")
        stamp = time if np.isnan(stamps[i]) else round(stamps[i] * 1e6)
        out.append((camera, time, {**mounts[camera], "pose": poses[i], "stamp": stamp}))
    if not options.rescale_images:
        _check_images(root, segment, times, {camera: row for camera, _, row in reversed(out)}, options)
    return sorted(out, key=lambda item: (item[1], item[0]))


def _check_images(
    root: Path, segment: str, times: NDArray[np.int64], rows: dict[int, dict[str, Any]], options: ConvertOptions
) -> None:
    """Compare the images of the first frame with the calibrations, and these with themselves."""
    pictures = Segment(root, segment)
    for camera, row in sorted(rows.items()):
        time = int(times[0])
        path, token = ComponentFile.of(root, "camera_image", segment).path, f"{segment}/{time}/{camera}"
        with options.problems.here():
            if pictures.has_image(time, camera):
                check_size(pictures.image(time, camera).size, row["size"], path, token)
            check_centre(row["intrinsics"], row["size"], path, token)


def _type_name(kind: int | str | None) -> str:
    """A type as the index has it; own sets may go on counting, or write names."""
    if isinstance(kind, str):
        return kind.lower() if kind.lower() in TYPES.values() else kind
    return TYPES[0] if kind is None else TYPES.get(kind, f"type_{kind}")


def _boxes(
    root: Path,
    segment: str,
    times: NDArray[np.int64],
    tokens: list[str],
    poses: NDArray[np.float64],
    options: ConvertOptions,
) -> dict[str, Any]:
    """Columns of `boxes`. Waymo gives velocities (m/s) along the axes of the world; here they follow the vehicle's."""
    file = ComponentFile.of(root, "lidar_box", segment)
    # Labels of `testing` are not published.
    if without_labels(root, segment) and (segment.startswith(UNLABELLED) or options.missing_labels == "unlabelled"):
        return {name: [] for name in BOXES.names} | {"box": np.zeros((0, 9)), "rotation": np.zeros((0, 4))}
    place = [f"box.{part}" for part in ("center.x", "center.y", "center.z", "size.x", "size.y", "size.z", "heading")]
    objects = [TIME, "key.laser_object_id", "type", "num_lidar_points_in_box"]
    speed = [name for name in ("speed.x", "speed.y") if file.has(name)]
    level = [name for name in ("difficulty_level.detection",) if file.has(name)]
    table = file.read([*objects, *place, *speed, *level])
    ids = words(table, "key.laser_object_id", file.path)
    again = valid.repeats(whole_numbers(table, TIME, file.path), ids)
    if again.any() or not all(ids):
        at = int(np.argmax(again)) if again.any() else ids.index("")
        what = "an object is labelled twice" if again.any() else "an object has no name"
        raise DataError(what, file=file.path, token=f"{segment}/{table[TIME][at].as_py()}", field=ids[at])
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
        (~valid.good_sizes(box[:, 3:6]), f"box sizes must be at most {valid.SIZE_M:g} m"),
        (~valid.within(box[:, :3], valid.FARTHEST_M), f"a box is farther than {valid.FARTHEST_M:g} m from the vehicle"),
        (~valid.within(box[:, 6], valid.ANGLE), "a heading that is no angle"),
    ):
        if bad.any():
            at = int(np.argmax(bad))
            raise DataError(
                message, file=file.path, token=tokens[frame[at]], field=table["key.laser_object_id"][at].as_py()
            )
    if len(speed) == 2:
        in_world = np.stack([numbers(table, name, file.path) for name in speed], axis=-1)
        fast = ~(np.isnan(in_world).any(axis=1) | valid.within(in_world, valid.SPEED_M_S))
        if fast.any():
            token = tokens[frame[int(np.argmax(fast))]]
            raise DataError(f"faster than {valid.SPEED_M_S:g} m/s", file=file.path, token=token, field="speed")
        box[:, 7:] = np.einsum("nji,nj->ni", poses[frame, :2, :2], in_world)
    kind = table["type"].type
    if not (pa.types.is_integer(kind) or pa.types.is_string(kind)):
        raise DataError(f"types are of {kind}, not numbers or names", file=file.path, field="type")
    names = [_type_name(one) for one in table["type"].to_pylist()]
    counted = numbers(table, "num_lidar_points_in_box", file.path)
    odd = ~np.isnan(counted) & ~valid.within(counted, valid.POINTS, 0)
    if odd.any():
        at = int(np.argmax(odd))
        message = f"a number of points must not be {'negative' if counted[at] < 0 else 'so large'}"
        raise DataError(message, file=file.path, token=tokens[frame[at]], field="num_lidar_points_in_box")
    points = np.nan_to_num(counted).astype(np.int32)
    said = np.nan_to_num(numbers(table, level[0], file.path)) if level else np.zeros(n)
    ids = table["key.laser_object_id"].to_pylist()
    if not set(said.tolist()) <= {0.0, 1.0, 2.0}:
        at = int(np.argmin(np.isin(said, (0, 1, 2))))
        raise DataError(
            "a level is 1, 2, or 0 where it is not said", file=file.path, token=tokens[frame[at]], field=level[0]
        )
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
        "num_lidar_pts": pa.array(points, mask=np.isnan(counted)),  # null: nobody counted them
        "num_radar_pts": np.zeros(n, dtype=np.int32),
    }
