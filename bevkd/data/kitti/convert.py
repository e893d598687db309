"""`convert_kitti`: KITTI object detection -> Parquet index; sensor data stays where it is."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bevkd import progress
from bevkd.classes import LABEL_INDEX
from bevkd.data.checks import check_centre, check_points
from bevkd.data.checks import image_size as size_of_image
from bevkd.data.index import BOXES, SENSORS, stamp
from bevkd.data.kitti.boxes import count_points, difficulty, ego_boxes, rotations
from bevkd.data.kitti.calibration import Calibration, read_calibration
from bevkd.data.kitti.files import (
    CALIBRATION,
    CAMERA,
    LABELS,
    LIDAR,
    Member,
    digest_of,
    find_members,
    find_splits,
    image_path,
    member,
)
from bevkd.data.kitti.objects import OTHER, TYPES, Objects, placed, read_folder
from bevkd.data.labelled import read_labelled, without_labels
from bevkd.data.options import ConvertOptions, Problems
from bevkd.data.points import Points, read_lidar
from bevkd.data.write import converter, fresh_folder, is_current, write_frames, write_table
from bevkd.errors import ConfigError, DataError
from bevkd.geometry import quaternion_from_matrix
from bevkd.processes import mapped

__all__ = ["CAMERA", "LIDAR", "convert_kitti", "image_size", "member", "size_or_guess", "spelling"]

log = logging.getLogger(__name__)

VERSION = "object"
MOST_REFLECTANCE = 1.0
_SPELLING = {"car": "Car", "dontcare": "DontCare"}
_CHUNK = 64  # frames that a process looks at in one go


def spelling(kind: str) -> str:
    """A type as KITTI writes it: "person_sitting" is "Person_sitting"."""
    return _SPELLING.get(kind, kind.capitalize())


def image_size(path: Path, name: str) -> tuple[int, int]:
    """Width and height of the image of a frame, from its header; it may have another suffix than `path`.

    Raises:
        DataError: it is missing or unreadable.
    """
    return size_of_image(image_path(path.parent, path.stem), name)


def size_or_guess(path: Path, name: str, calibration: Calibration) -> tuple[int, int]:
    """Width and height of the image of a frame or, where it was not downloaded, twice its principal point.

    Rectified images have that near their middle.

    Raises:
        DataError: the image is unreadable.
    """
    if image_path(path.parent, path.stem).exists():
        return image_size(path, name)
    u, v = calibration.intrinsics[:2, 2].tolist()
    return round(2 * u), round(2 * v)


@dataclass(frozen=True)
class _Found:
    """What conversion reads of one frame."""

    size: tuple[int, int]  # of the image: width, height; zeros where there is none
    calibration: Calibration
    boxes: dict[str, Any]  # columns of `boxes` that need no other frame


@converter
def convert_kitti(root: str | Path, out: str | Path, workers: int = 1, options: ConvertOptions | None = None) -> Path:
    """Write the index of a KITTI object detection folder.

    Splits are the lists `ImageSets/{train,tune,val,test}.txt`; frames of `training` that no list names belong to none.
    Without lists every frame of `training` is in `train`, without `test.txt` every frame of `testing` in `test`. The
    benchmark's own `test.txt` counts frames of `testing`; where these are not there, it is left out.
    Labels are read where there is a folder of them. Regions of no care have no box in 3D and are left out; so are the
    road planes that some distributions add. KITTI frames are single: no sweeps, no velocities, no time stamps, and the
    ego frame (the velodyne's) serves as the global one. Images are PNG or JPEG. A folder without any point cloud, or
    without any image, is indexed for what it has.

    An index that was made from the same files by the same format is left as it is. Otherwise the new one replaces
    whatever index `out` held, in one rename and only when it is complete.

    Args:
        root: folder with `training/` and perhaps `testing/` (`image_2`, `velodyne`, `calib`, `label_2`), `ImageSets/`
            and a `labelled.json` with subsets of frames whose labels may be used.
        out: the index folder.
        workers: processes.
        options: where the folder differs from KITTI's rules.

    Raises:
        ConfigError: an option that means nothing here.
        DataError: no frame; a file is missing, truncated or malformed; a list names a frame that is not there; points
            are not what the format holds, or a calibration does not fit its image.
    """
    root, out, options = Path(root), Path(out), options or ConvertOptions()
    problems = options.problems
    if options.rescale_images:
        raise ConfigError(
            "KITTI does not say for which size of an image its calibration was made: convert the original images, then"
            " data.rescale_images takes resized ones; or scale P2 in calib/ with them"
        )
    folder = find_members(root, options)
    members = folder.members
    splits = find_splits(root, members, options)
    source = digest_of(root, members, options)
    if not problems.found and is_current(out, VERSION, source):
        log.info("%s is up to date", out)
        return out
    tokens = [one.token for one in members]
    subsets, labelled = read_labelled(root / "labelled.json", tokens, problems, absent=options.partial)
    if options.missing_labels == "unlabelled" and folder.without_labels:
        blank = [one.folder == "training" and not one.labels for one in members]
        subsets, labelled = without_labels(subsets, labelled, blank)
    facts: dict[str, Any] = {
        "reader": "kitti",
        "version": VERSION,
        "source": source,
        "splits": sorted(set(splits.values()) - {""}),
        "labelled_subsets": subsets,
        "frames": len(members),
        "unlabelled": 0,
        "missing_sweeps": 0,
        **({"missing": folder.missing} if folder.missing else {}),
        **({"without_labels": folder.without_labels} if folder.without_labels else {}),
        **options.facts(),
    }
    looked = _look(root, members, workers, options)
    found = list(progress.track(looked, "indexing", len(members), "frames"))
    problems.check()
    with fresh_folder(out) as temporary:
        n = len(members)
        scene = np.arange(n, dtype=np.int32)
        words = {name: np.full(n, "", dtype=object) for name in ("description", "location", "weather", "lighting")}
        words["scene_name"] = np.array(tokens, dtype=object)
        words["split"] = np.array([splits[token] for token in tokens], dtype=object)
        sensors, keys = _sensor_columns(members, found)
        frames = {
            "token": tokens,
            "scene": scene,
            "timestamp": np.zeros(n, dtype=np.int64),
            "global_from_ego": np.tile(np.eye(4), (n, 1, 1)),
            "key": keys,
            "lidar_sweeps": [[] for _ in range(n)],
            "radar_sweeps": [[] for _ in range(n)],
        }
        write_frames(temporary / "frames.parquet", frames, words, labelled, facts)
        write_table(temporary / "sensors.parquet", stamp(SENSORS, facts), sensors)
        boxes = _box_columns(tokens, found)
        write_table(temporary / "boxes.parquet", stamp(BOXES, facts), boxes)
    log.info("%s: %d frames, %d boxes", out, n, len(boxes["frame"]))
    return out


def _look(root: Path, members: list[Member], workers: int, options: ConvertOptions) -> Iterator[_Found]:
    chunks = [members[low : low + _CHUNK] for low in range(0, len(members), _CHUNK)]
    work = partial(_look_at, root, replace(options, problems=Problems(options.problems.collect)))
    for found, errors in mapped(work, chunks, workers):
        for error in errors:
            options.problems.add(error)
        yield from found


def _look_at(root: Path, options: ConvertOptions, members: list[Member]) -> tuple[list[_Found], list[DataError]]:
    """Read calibration, labels, points and the size of the image of some frames; and what is wrong with them."""
    out, errors = [], []
    for one in members:
        problems = Problems(options.problems.collect)
        # Parts that do not depend on each other, so that each of them may have its problem.
        calibration: Calibration | None = None
        points: Points | None = None
        objects = read_folder(root, [], scored=False)
        size = (0, 0)
        with problems.here():
            calibration = read_calibration(root / one.path(CALIBRATION), one.name)
        with problems.here():
            if one.image is not None:
                size = size_of_image(root / one.path(CAMERA), one.name)
                if calibration is not None:
                    check_centre(calibration.intrinsics, size, root / one.path(CAMERA), one.name)
        with problems.here():
            if one.lidar:
                path = root / one.path(LIDAR)
                points = read_lidar(path, one.name, columns=options.point_columns or 4)
                check_points(points, MOST_REFLECTANCE, path, one.name)
        with problems.here():
            if one.labels:
                objects = read_folder(root / one.folder / LABELS, [one.name], scored=False)
                objects = objects.select(placed(objects))
        errors += problems.found
        if calibration is not None and not problems.found:
            out.append(_Found(size, calibration, _columns(objects, calibration, points)))
    return out, errors


def _columns(objects: Objects, calibration: Calibration, points: Points | None) -> dict[str, Any]:
    names = [TYPES[kind] if kind != OTHER else "" for kind in objects.kind]
    own = objects.words if objects.words is not None else names
    unknown: list[int | None] = [None] * len(objects)
    return {
        "category": [spelling(name) if name else str(word) for name, word in zip(names, own, strict=True)],
        "label": [LABEL_INDEX.get(name, -1) for name in names],
        "difficulty": difficulty(objects).tolist(),
        "box": ego_boxes(objects, calibration),
        "rotation": [quaternion_from_matrix(turn) for turn in rotations(objects, calibration)],
        "num_lidar_pts": count_points(points, objects, calibration).tolist() if points is not None else unknown,
    }


def _sensor_columns(members: list[Member], found: list[_Found]) -> tuple[dict[str, Any], list[list[int]]]:
    """A row for the LiDAR and one for the left colour camera of each frame that has them; and each frame's rows."""
    rows: list[tuple[int, str, str, str, tuple[int, int], NDArray[np.float64], NDArray[np.float64]]] = []
    keys: list[list[int]] = []
    for i, (one, seen) in enumerate(zip(members, found, strict=True)):
        keys.append([])
        if one.lidar:
            keys[-1].append(len(rows))
            rows.append((i, LIDAR, "lidar", one.path(LIDAR), (0, 0), np.zeros((3, 3)), np.eye(4)))
        if one.image is not None:
            keys[-1].append(len(rows))
            camera = seen.calibration
            rows.append((i, CAMERA, "camera", one.path(CAMERA), seen.size, camera.intrinsics, camera.ego_from_camera))
    n = len(rows)
    frame, channel, modality, filename, size, intrinsics, mounts = zip(*rows, strict=True)
    columns = {
        "row": np.arange(n, dtype=np.int32),
        "token": [members[i].token for i in frame],
        "scene": np.array(frame, dtype=np.int32),
        "channel": list(channel),
        "modality": list(modality),
        "is_key": np.ones(n, dtype=bool),
        "timestamp": np.zeros(n, dtype=np.int64),
        "filename": list(filename),
        "width": [width for width, _ in size],
        "height": [height for _, height in size],
        "intrinsics": np.stack(intrinsics),
        "ego_from_sensor": np.stack(mounts),
        "global_from_ego": np.tile(np.eye(4), (n, 1, 1)),
    }
    return columns, keys


def _box_columns(tokens: list[str], found: list[_Found]) -> dict[str, Any]:
    counts = [len(one.boxes["label"]) for one in found]
    frame = np.repeat(np.arange(len(found), dtype=np.int32), counts)
    names = [f"{token}/{i}" for token, count in zip(tokens, counts, strict=True) for i in range(count)]
    flat = {
        key: [value for one in found for value in one.boxes[key]]
        for key in ("category", "label", "difficulty", "num_lidar_pts")
    }
    total = int(sum(counts))
    return {
        **flat,
        "token": names,
        "frame": frame,
        "scene": frame,
        "instance": names,
        "attribute": [""] * total,
        "visibility": np.zeros(total, dtype=np.int8),
        "box": np.concatenate([one.boxes["box"] for one in found]),
        "rotation": np.array([turn for one in found for turn in one.boxes["rotation"]]).reshape(-1, 4),
        "num_radar_pts": np.zeros(total, dtype=np.int32),
    }
