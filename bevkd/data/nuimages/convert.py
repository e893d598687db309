"""`convert_nuimages`: nuImages tables -> Parquet index; images stay where they are."""

from __future__ import annotations

import hashlib
import logging
import os
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bevkd.classes import CLASS_INDEX, CLASS_OF_CATEGORY
from bevkd.data import valid
from bevkd.data.index import BOXES, SENSORS, stamp
from bevkd.data.inside import Inside
from bevkd.data.nuimages.objects import FILE, OBJECTS
from bevkd.data.nuscenes.files import listing_digest
from bevkd.data.nuscenes.tables import Table, read_table
from bevkd.data.options import ConvertOptions
from bevkd.data.write import converter, fresh_folder, is_current, write_frames, write_table
from bevkd.errors import DataError, nearest
from bevkd.geometry import rotation_from_quaternion
from bevkd.io import names_in, reading
from bevkd.regular import TABLE, open_regular

log = logging.getLogger(__name__)

PREFIX = "v1.0-"
SPLITS = ("train", "val", "test", "mini")  # a split is a version of its own
MINI = "v1.0-mini"
ALL = "v1.0"  # as a version: all of them that are there
_TABLES: dict[str, dict[str, str]] = {
    "sensor": {"channel": "text", "modality": "text"},
    "category": {"name": "text"},
    "log": {"logfile": "text", "location": "text"},
    "calibrated_sensor": {
        "sensor_token": "link",
        "translation": "vec3",
        "rotation": "vec4",
        "camera_intrinsic": "matrix3",
    },
    "ego_pose": {"translation": "vec3", "rotation": "vec4"},
    "sample": {"log_token": "link"},
    "sample_data": {
        "sample_token": "link",
        "ego_pose_token": "link",
        "calibrated_sensor_token": "link",
        "timestamp": "time",
        "filename": "text",
        "width": "side",
        "height": "side",
        "is_key_frame": "bool",
    },
    "object_ann": {"sample_data_token": "link", "category_token": "link", "bbox": "vec4", "mask": "mask"},
}


@dataclass(frozen=True)
class _Part:
    """One version: columns of `frames`, `sensors` and `objects`, and names of its logs."""

    split: str
    frames: dict[str, Any]
    objects: dict[str, Any]
    logs: list[str]
    locations: list[str]


def found_versions(root: str | Path) -> list[str]:
    """The versions of nuImages whose tables lie in a folder; what tells them from nuScenes is `object_ann`."""
    return [f"{PREFIX}{s}" for s in SPLITS if (Path(root) / f"{PREFIX}{s}" / "object_ann.json").is_file()]


@converter
def convert_nuimages(
    root: str | Path, version: str | None, out: str | Path, workers: int = 1, options: ConvertOptions | None = None
) -> Path:
    """Write the index of nuImages: a frame for every annotated image, and the table `objects`.

    A version is a split (`v1.0-train` is `train`), so that by default all that are there go into one index. Images
    between keyframes and LiDAR files are left out. An index that was made from the same tables is left as it is.

    Args:
        root: folder with `v1.0-*` and `samples`.
        version: one of the versions; None or `v1.0`: all that are there, but `v1.0-mini`, whose images the others hold,
            only alone.
        out: the index folder.
        workers: not used: tables are read one after the other.
        options: where the folder differs from the format's rules.

    Raises:
        DataError: no such version; a table or an image is missing, or a record is malformed: file, token and field
            are named.
    """
    root, out, options = Path(root), Path(out), options or ConvertOptions()
    there = found_versions(root)
    # The images of `mini` are in the other versions, too.
    every = [name for name in there if name != MINI] or there
    versions = every if version in (None, ALL) else [str(version)]
    if not there or not set(versions) <= set(there):
        wanted = version or f"{PREFIX}*"
        raise DataError(f"no nuImages tables {wanted!r} here{nearest(wanted, there)}", file=root, field="object_ann")
    source = _digest(root, versions, options)
    if not options.problems.found and is_current(out, ALL, source):
        log.info("%s is up to date", out)
        return out
    parts = [_read(root, name, options) for name in versions]
    options.problems.check()
    _write(out, parts, source, options)
    return out


def _read(root: Path, version: str, options: ConvertOptions) -> _Part:
    folder, problems = root / version, options.problems
    tables = {name: read_table(folder, name, fields, problems) for name, fields in _TABLES.items()}
    mounts, poses, data, objects = (
        tables[name] for name in ("calibrated_sensor", "ego_pose", "sample_data", "object_ann")
    )
    for table, most in ((mounts, valid.MOUNT_M), (poses, valid.GLOBAL_M)):
        table.require_within("translation", most)
        table.require_rotation()
    of_mount = tables["sensor"].rows_of(mounts, "sensor_token")
    mounts.require_cameras(tables["sensor"]["modality"][of_mount] == "camera")
    mount = mounts.rows_of(data, "calibrated_sensor_token")
    sensor = of_mount[mount]
    pose = poses.rows_of(data, "ego_pose_token")
    sample = tables["sample"].rows_of(data, "sample_token")
    log_row = tables["log"].rows_of(tables["sample"], "log_token")[sample]
    key = np.flatnonzero(data["is_key_frame"] & (tables["sensor"]["modality"][sensor] == "camera"))
    fits = valid.good_image_sizes(data["width"], data["height"])
    data.require(fits | ~np.isin(np.arange(len(data)), key), "width", "no size that an image can have")
    again = key[valid.repeats(sample[key], sensor[key])]
    unlike = ~np.isin(np.arange(len(data)), again)
    data.require(unlike, "sample_token", "sample has two key records of a sensor")
    key = key[_present(root, data, key, options)]
    annotated = _objects(objects, tables["category"], data, key)
    problems.check()  # what follows makes matrices of what was looked at
    frames = {
        "token": [token.decode() for token in data["token"][key]],
        "log": log_row[key],
        "timestamp": data["timestamp"][key],
        "global_from_ego": _matrices(poses, pose[key]),
        "channel": tables["sensor"]["channel"][sensor[key]],
        "filename": data["filename"][key],
        "width": data["width"][key],
        "height": data["height"][key],
        "intrinsics": mounts["camera_intrinsic"][mount[key]],
        "ego_from_sensor": _matrices(mounts, mount[key]),
    }
    return _Part(
        version.removeprefix(PREFIX),
        frames,
        annotated,
        tables["log"]["logfile"].tolist(),
        tables["log"]["location"].tolist(),
    )


def _objects(objects: Table, category: Table, data: Table, key: NDArray[np.int64]) -> dict[str, Any]:
    """Columns of `objects`, for the images that are there."""
    row, kind = data.rows_of(objects, "sample_data_token"), category.rows_of(objects, "category_token")
    objects.require_within("bbox", valid.PLACE_PX)
    box, masks = objects["bbox"], objects["mask"]
    objects.require((box[:, 2] > box[:, 0]) & (box[:, 3] > box[:, 1]), "bbox", "wants xmin < xmax and ymin < ymax")
    sizes = np.array([(0, 0) if mask is None else mask[0] for mask in masks], dtype=np.int64).reshape(-1, 2)
    of_image = np.stack([data["height"][row], data["width"][row]], axis=-1)
    fits = (sizes == of_image).all(axis=1) | np.array([mask is None for mask in masks], dtype=bool)
    objects.require(fits, "mask", "size of the mask is not that of the image")
    keep = np.flatnonzero(np.isin(row, key))
    label = np.array([CLASS_INDEX.get(CLASS_OF_CATEGORY.get(n, ""), -1) for n in category["name"]], dtype=np.int8)
    kept = [masks[i] for i in keep]
    return {
        "token": objects["token"][keep],
        "image": data["token"][row[keep]],
        "category": category["name"][kind[keep]],
        "label": label[kind[keep]],
        "bbox": box[keep],
        "mask_height": [None if mask is None else mask[0][0] for mask in kept],
        "mask_width": [None if mask is None else mask[0][1] for mask in kept],
        "mask": [None if mask is None else mask[1] for mask in kept],
    }


def _matrices(table: Table, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    out = np.tile(np.eye(4), (len(rows), 1, 1))
    out[:, :3, :3] = rotation_from_quaternion(table["rotation"][rows])
    out[:, :3, 3] = table["translation"][rows]
    return out


def _present(root: Path, data: Table, key: NDArray[np.int64], options: ConvertOptions) -> NDArray[np.bool_]:
    """Which of some images have a file; without `partial` all must."""
    there, inside = np.zeros(len(key), dtype=bool), Inside(root, options.link_targets)
    for at, row in enumerate(key.tolist()):
        name, token = data["filename"][row], data["token"][row].decode()
        path = root / name
        if (why := inside.refused(name)) is not None:
            options.problems.add(DataError(why, file=path, token=token, field="filename"))
            continue
        there[at] = os.path.isfile(path) and os.path.getsize(path) > 0  # also of a name that is too long for any
        if not there[at] and not options.partial:
            what = "image is missing or empty (`convert --partial` indexes what is there)"
            options.problems.add(DataError(what, file=path, token=token, field="filename"))
    return there


def _write(out: Path, parts: list[_Part], source: str, options: ConvertOptions) -> None:
    first = np.cumsum([0, *(len(part.logs) for part in parts)]).tolist()

    def joined(name: str) -> Any:
        columns = [part.frames[name] for part in parts]
        return np.concatenate(columns) if isinstance(columns[0], np.ndarray) else list(chain.from_iterable(columns))

    tokens = joined("token")
    if not tokens:
        raise DataError("no annotated image is there", file=out)
    n = len(tokens)
    scene = np.concatenate([part.frames["log"] + low for part, low in zip(parts, first, strict=False)]).astype(np.int32)
    # Weather and light are not said.
    words: dict[str, Any] = {name: np.full(first[-1], "", object) for name in ("description", "weather", "lighting")}
    words["scene_name"] = np.array([f"{part.split}/{name}" for part in parts for name in part.logs], dtype=object)
    words["location"] = np.array([name for part in parts for name in part.locations], dtype=object)
    words["split"] = np.array([part.split for part in parts for _ in part.logs], dtype=object)
    facts: dict[str, Any] = {
        "reader": "nuimages",
        "version": ALL,
        "source": source,
        "splits": sorted(part.split for part in parts),
        "labelled_subsets": None,
        "frames": n,
        "unlabelled": 0,
        "missing_sweeps": 0,
        "objects": sum(len(part.objects["image"]) for part in parts),
        **options.facts(),
    }
    frames = {
        "token": tokens,
        "scene": scene,
        "timestamp": joined("timestamp"),
        "global_from_ego": joined("global_from_ego"),
        "key": [[i] for i in range(n)],
        "lidar_sweeps": [[] for _ in range(n)],
        "radar_sweeps": [[] for _ in range(n)],
    }
    sensors = {
        **{name: joined(name) for name in ("token", "channel", "timestamp", "filename", "width", "height")},
        **{name: joined(name) for name in ("intrinsics", "ego_from_sensor", "global_from_ego")},
        "row": np.arange(n, dtype=np.int32),
        "scene": scene,
        "modality": ["camera"] * n,
        "is_key": np.ones(n, dtype=bool),
    }
    objects: dict[str, Any] = {"bbox": np.concatenate([part.objects["bbox"] for part in parts])}
    for name in set(OBJECTS.names) - {"bbox"}:
        values = [value for part in parts for value in part.objects[name]]
        objects[name] = [value.decode() if isinstance(value, bytes) else value for value in values]
    none = np.zeros((0, 9)), np.zeros((0, 4))
    boxes: dict[str, Any] = {name: [] for name in BOXES.names} | {"box": none[0], "rotation": none[1]}
    with fresh_folder(out) as temporary:
        write_frames(temporary / "frames.parquet", frames, words, None, facts)
        write_table(temporary / "sensors.parquet", stamp(SENSORS, facts), sensors)
        write_table(temporary / "boxes.parquet", stamp(BOXES, facts), boxes)
        write_table(temporary / FILE, stamp(OBJECTS, facts), objects)
    log.info("%s: %d images, %d objects", out, n, facts["objects"])


def _digest(root: Path, versions: list[str], options: ConvertOptions) -> str:
    """SHA-256 over the tables that the index depends on, the images that are there, and unusual options."""
    total = hashlib.sha256()
    for version in versions:
        for name in names_in(root / version, ".json"):
            with reading(root / version / name, "table"), open_regular(root / version / name, TABLE) as stream:
                total.update(f"{version}/{name}".encode() + hashlib.file_digest(stream, "sha256").digest())
    folders = sorted(f"samples/{name}" for name in names_in(root / "samples"))
    total.update(listing_digest(Inside(root, options.link_targets), folders).encode())
    if facts := options.facts():
        total.update(repr(sorted(facts.items())).encode())
    return total.hexdigest()
