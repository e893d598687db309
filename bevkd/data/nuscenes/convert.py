"""`convert_nuscenes`: nuScenes tables of any version -> Parquet index; sensor data stays where it is."""

from __future__ import annotations

import hashlib
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from bevkd.data.index import BOXES, SENSORS, stamp
from bevkd.data.labelled import read_labelled
from bevkd.data.nuscenes.annotations import box_columns
from bevkd.data.nuscenes.frames import Records, frame_columns, sort_records, sweep_frames
from bevkd.data.nuscenes.names import lighting, scene_splits, weather
from bevkd.data.nuscenes.tables import Table, read_table
from bevkd.data.write import arrow_table, fresh_folder, is_current, write_frames, write_table
from bevkd.errors import DataError
from bevkd.processes import process_pool

log = logging.getLogger(__name__)

_STATS = 1024  # files that a thread looks at in one go

_TABLES: dict[str, dict[str, str]] = {
    "sample_data": {
        "sample_token": "token",
        "ego_pose_token": "token",
        "calibrated_sensor_token": "token",
        "timestamp": "int",
        "is_key_frame": "bool",
        "height": "int",
        "width": "int",
        "filename": "token",
    },
    "ego_pose": {"rotation": "vec4", "translation": "vec3"},
    "sample_annotation": {
        "sample_token": "token",
        "instance_token": "token",
        "visibility_token": "link",
        "attribute_tokens": "links",
        "translation": "vec3",
        "size": "vec3",
        "rotation": "vec4",
        "prev": "link",
        "next": "link",
        "num_lidar_pts": "int",
        "num_radar_pts": "int",
    },
    "sample": {"timestamp": "int", "scene_token": "token"},
    "scene": {"name": "text", "description": "text", "log_token": "token"},
    "log": {"location": "text"},
    "sensor": {"channel": "text", "modality": "text"},
    "calibrated_sensor": {
        "sensor_token": "token",
        "translation": "vec3",
        "rotation": "vec4",
        "camera_intrinsic": "matrix3",
    },
    "instance": {"category_token": "token"},
    "category": {"name": "text"},
    "attribute": {"name": "text"},
    "visibility": {},
}


def convert_nuscenes(root: str | Path, version: str, out: str | Path, workers: int = 1) -> Path:
    """Write the index of one version of a nuScenes data set.

    An index that was made from the same tables by the same format is left as it is. Otherwise the new one replaces
    whatever index `out` held, in one rename and only when it is complete.

    Args:
        root: folder with `<version>/`, `samples/` and `sweeps/`.
        version: for example `v1.0-mini`, or any other folder with tables and a `splits.json`.
        out: the index folder.
        workers: processes that parse tables, and threads that look at files.

    Returns:
        `out`.

    Raises:
        DataError: a missing table or sensor file, a truncated LiDAR file, a pose that is not finite, a record that
            refers to nothing, tables without any frame.
    """
    root, out = Path(root), Path(out)
    folder = root / version
    if not folder.is_dir():
        raise DataError("no such data set version", file=folder)
    source = _digest(folder)
    if is_current(out, version, source):
        log.info("%s is up to date", out)
        return out
    tables = _read_tables(folder, workers)
    _check(tables)
    splits = scene_splits(root, version)
    split_of = {name: split for split, names in splits.items() for name in names}

    sample, scene = tables["sample"], tables["scene"]
    if len(sample) == 0:
        raise DataError("there is no frame", file=sample.path)
    sample_scene = scene.rows_of(sample, "scene_token")
    records = sort_records(tables, sample_scene)
    present = _check_files(root, tables["sample_data"], records, workers)
    records = records.select(present)
    key_frames = frame_columns(tables, records, sample_scene)
    between = sweep_frames(records, key_frames)
    log_row = tables["log"].rows_of(scene, "log_token")
    words: dict[str, NDArray[Any]] = {
        "scene_name": scene["name"],
        "description": scene["description"],
        "location": tables["log"]["location"][log_row],
        "weather": np.array([weather(text) for text in scene["description"]], dtype=object),
        "lighting": np.array([lighting(text) for text in scene["description"]], dtype=object),
        "split": np.array([split_of.get(name, "") for name in scene["name"]], dtype=object),
    }
    subsets, labelled = read_labelled(folder / "labelled.json", [t.decode() for t in key_frames["token"]])
    held = [name for name in splits if name in set(words["split"])] if len(scene) else []
    facts = {
        "reader": "nuscenes",
        "version": version,
        "source": source,
        "splits": sorted(splits),
        "labelled_subsets": subsets,
        "frames": len(key_frames["token"]),
        "unlabelled": len(between["token"]) if between is not None else 0,
        "missing_sweeps": int((~present).sum()),
    }
    if len(held) == 0:
        log.warning("%s: no scene belongs to a split (%s)", folder, ", ".join(splits))
    with fresh_folder(out) as temporary:
        write_frames(temporary / "frames.parquet", key_frames, words, labelled, facts)
        if between is not None:
            write_frames(temporary / "unlabelled.parquet", between, words, None, facts)
        _write_sensors(temporary / "sensors.parquet", tables, records, facts)
        boxes = box_columns(tables, key_frames, sample_scene)
        write_table(temporary / "boxes.parquet", stamp(BOXES, facts), boxes)
    log.info(
        "%s: %d frames, %d between keyframes, %d sensor files, %d boxes",
        out, facts["frames"], facts["unlabelled"], len(records.row), len(boxes["frame"]),
    )  # fmt: skip
    return out


def _read_tables(folder: Path, workers: int) -> dict[str, Table]:
    for name in _TABLES:  # before the large ones are parsed
        if not (folder / f"{name}.json").is_file():
            raise DataError("table is missing", file=folder / f"{name}.json")
    if workers <= 1:
        return {name: read_table(folder, name, fields) for name, fields in _TABLES.items()}
    # One process per large table: parsing holds the interpreter lock.
    with process_pool(min(workers, len(_TABLES))) as pool:
        futures = {name: pool.submit(read_table, folder, name, fields) for name, fields in _TABLES.items()}
        return {name: future.result() for name, future in futures.items()}


def _check(tables: dict[str, Table]) -> None:
    for name in ("ego_pose", "calibrated_sensor", "sample_annotation"):
        tables[name].require_finite("translation")
        tables[name].require_rotation()
    mounts = tables["calibrated_sensor"]
    mounts.require_finite("camera_intrinsic")
    sensor = tables["sensor"].rows_of(mounts, "sensor_token")
    camera = tables["sensor"]["modality"][sensor] == "camera"
    invertible = np.abs(np.linalg.det(mounts["camera_intrinsic"])) > 0
    mounts.require(~camera | invertible, "camera_intrinsic", "a camera needs an invertible 3x3 matrix")
    annotation = tables["sample_annotation"]
    annotation.require_finite("size")
    annotation.require(np.all(annotation["size"] > 0, axis=1), "size", "box sizes must be positive")


def _check_files(root: Path, data: Table, records: Records, workers: int) -> NDArray[np.bool_]:
    """Which records have a file; key records must have one, and LiDAR files must hold whole points."""
    base = os.fsencode(root)

    def size(name: bytes) -> int:
        try:
            return os.stat(os.path.join(base, name)).st_size
        except FileNotFoundError:
            return -1

    def sizes_of(names: NDArray[np.bytes_]) -> list[int]:
        return [size(name) for name in names.tolist()]

    names = data["filename"][records.row]
    parts = [names[low : low + _STATS] for low in range(0, len(names), _STATS)]
    with ThreadPoolExecutor(max(1, 4 * workers)) as pool:  # network file systems answer many questions at once
        sizes = np.array([n for part in pool.map(sizes_of, parts) for n in part], dtype=np.int64)
    lidar = records.modality == "lidar"
    problems = (
        (records.is_key & (sizes < 0), "file is missing"),
        (sizes == 0, "file is empty"),
        (lidar & (sizes > 0) & (sizes % 20 != 0), "truncated LiDAR file: its size is not a multiple of 20 bytes"),
    )
    for bad, message in problems:
        if bad.any():
            row = records.row[int(np.argmax(bad))]
            name, token = data["filename"][row].decode(), data["token"][row].decode()
            raise DataError(message, file=root / name, token=token, field="filename")
    missing = int((sizes < 0).sum())
    if missing:
        log.warning("%d files between keyframes are missing and left out of the index", missing)
    return np.asarray(sizes >= 0)


def _write_sensors(path: Path, tables: dict[str, Table], records: Records, facts: dict[str, Any]) -> None:
    data = tables["sample_data"]
    schema = stamp(SENSORS, facts)
    block = 100_000
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for low in range(0, max(len(records.row), 1), block):
            part = records.select(slice(low, low + block))
            columns = {
                "row": np.arange(low, low + len(part.row), dtype=np.int32),
                "token": data["token"][part.row],
                "scene": part.scene,
                "channel": part.channel,
                "modality": part.modality,
                "is_key": part.is_key,
                "timestamp": part.timestamp,
                "filename": data["filename"][part.row],
                "width": data["width"][part.row],
                "height": data["height"][part.row],
                "intrinsics": tables["calibrated_sensor"]["camera_intrinsic"][part.calibration].reshape(-1, 9),
                "ego_from_sensor": part.ego_from_sensor(tables),
                "global_from_ego": part.global_from_ego(tables),
            }
            writer.write_table(arrow_table(schema, columns))


def _digest(folder: Path) -> str:
    """SHA-256 over the tables and lists that the index depends on."""
    total = hashlib.sha256()
    for path in sorted(folder.glob("*.json")):
        with open(path, "rb") as stream:
            total.update(path.name.encode() + hashlib.file_digest(stream, "sha256").digest())
    return total.hexdigest()
