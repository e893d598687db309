"""`convert_nuscenes`: nuScenes tables of any version -> Parquet index; sensor data stays where it is."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from bevkd import progress
from bevkd.data.index import BOXES, SENSORS, read_stamp, stamp
from bevkd.data.inside import Inside
from bevkd.data.labelled import read_labelled
from bevkd.data.nuscenes.annotations import box_columns
from bevkd.data.nuscenes.files import Present, find_files, folders_of, listing_digest, look_into
from bevkd.data.nuscenes.frames import Records, frame_columns, sort_records, sweep_frames
from bevkd.data.nuscenes.names import CAMERAS, LIDAR, RADARS, lighting, scene_lists, scene_splits, weather
from bevkd.data.nuscenes.past import past_sets
from bevkd.data.nuscenes.tables import Table, read_table
from bevkd.data.options import ConvertOptions, Problems
from bevkd.data.past import FILE as PAST_FILE
from bevkd.data.past import PAST
from bevkd.data.valid import GLOBAL_M, MOUNT_M
from bevkd.data.write import arrow_table, converter, fresh_folder, is_current, write_frames, write_table
from bevkd.errors import BevkdError, DataError
from bevkd.io import names_in, reading
from bevkd.processes import process_pool
from bevkd.regular import TABLE, open_regular

log = logging.getLogger(__name__)

_MOST_VISIBLE = 127

_TABLES: dict[str, dict[str, str]] = {
    "sample_data": {
        "sample_token": "token",
        "ego_pose_token": "token",
        "calibrated_sensor_token": "token",
        "timestamp": "time",
        "is_key_frame": "bool",
        "height": "side",
        "width": "side",
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
        "num_lidar_pts": "count",
        "num_radar_pts": "count",
    },
    "sample": {"timestamp": "time", "scene_token": "token"},
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


@converter
def convert_nuscenes(
    root: str | Path, version: str, out: str | Path, workers: int = 1, options: ConvertOptions | None = None
) -> Path:
    """Write the index of one version of a nuScenes data set.

    An index that was made from the same tables and files by the same format is left as it is. Otherwise the new one
    replaces whatever index `out` held, in one rename and only when it is complete. Sensors that were not downloaded,
    for some scenes or all, are left out and counted; so are frames of which nothing is there.

    Args:
        root: folder with `<version>/`, `samples/` and `sweeps/`.
        version: for example `v1.0-mini`, or any other folder with tables and a `splits.json`.
        out: the index folder.
        workers: processes that parse tables, and threads that look at files.
        options: where the data set differs from nuScenes' rules.

    Returns:
        `out`.

    Raises:
        DataError: a missing table or sensor file, a truncated LiDAR file, a pose that is not finite, a record that
            refers to nothing, an image of another size than the tables say, tables without any frame, a split of scenes
            that are not there.
    """
    root, out, options = Path(root), Path(out), options or ConvertOptions()
    problems, inside = options.problems, Inside(root, options.link_targets)
    folder = root / version
    if not folder.is_dir():
        raise DataError("no such data set version", file=folder)
    source_of_tables = _digest(folder, options)
    if not problems.collect and _is_current(inside, out, version, source_of_tables, workers):
        log.info("%s is up to date", out)
        return out
    tables = _read_tables(folder, workers, problems)
    _check(tables)
    names = tables["scene"]["name"].tolist()
    splits = _read_splits(scene_splits, root, version, names, problems)
    lists = _read_splits(scene_lists, root, version, names, problems)

    sample, scene = tables["sample"], tables["scene"]
    if len(sample) == 0:
        raise DataError("there is no frame", file=sample.path)
    sample_scene = scene.rows_of(sample, "scene_token")
    all_records = sort_records(tables, sample_scene)
    problems.check()  # what follows goes along the links between tables
    # Before files are looked at: one that comes in the meantime is another listing the next time.
    folders = folders_of(tables["sample_data"])
    source = _source(source_of_tables, listing_digest(inside, folders, workers))
    present = find_files(root, tables["sample_data"], all_records, workers, options)
    records = all_records.select(present.records)
    look_into(root, tables, records, workers, options)
    key_frames = frame_columns(tables, all_records, present.records, sample_scene)
    if len(key_frames["token"]) == 0:
        raise DataError("no sensor file of any keyframe is there", file=root)
    words = _scene_words(tables, splits)
    left = len(sample) - len(key_frames["token"])
    tokens = [t.decode() for t in key_frames["token"]]
    subsets, labelled = read_labelled(folder / "labelled.json", tokens, problems, absent=left > 0 or options.partial)
    # Where a list says which frames are labelled, the others are the unlabelled ones: nobody reads those in between.
    between = sweep_frames(records, key_frames) if subsets is None else None
    held = [name for name in splits if name in set(words["split"])] if len(scene) else []
    facts = {
        "reader": "nuscenes",
        "version": version,
        "source": source,
        "folders": folders,
        "splits": sorted(splits),
        **({"lists": lists} if lists else {}),
        "labelled_subsets": subsets,
        "frames": len(tokens),
        "unlabelled": len(between["token"]) if between is not None else 0,
        "missing_sweeps": present.sweeps,
        **_left_out(present, left),
        **options.facts(),
    }
    if len(held) == 0:
        log.warning("%s: no scene belongs to a split (%s)", folder, ", ".join(splits))
    boxes = box_columns(tables, key_frames, sample_scene)
    problems.check()
    with fresh_folder(out) as temporary:
        write_frames(temporary / "frames.parquet", key_frames, words, labelled, facts)
        if between is not None:
            write_frames(temporary / "unlabelled.parquet", between, words, None, facts)
        _write_sensors(temporary / "sensors.parquet", tables, records, facts)
        write_table(temporary / "boxes.parquet", stamp(BOXES, facts), boxes)
        _write_past(temporary / PAST_FILE, records, [key_frames] if between is None else [key_frames, between], facts)
    log.info(
        "%s: %d frames, %d between keyframes, %d sensor files, %d boxes",
        out, facts["frames"], facts["unlabelled"], len(records.row), len(boxes["frame"]),
    )  # fmt: skip
    return out


def _read_splits(
    read: Callable[..., dict[str, list[str]]], root: Path, version: str, scenes: list[str], problems: Problems
) -> dict[str, list[str]]:
    with problems.here():
        return read(root, version, scenes, problems)
    return {}


def _scene_words(tables: dict[str, Table], splits: dict[str, list[str]]) -> dict[str, NDArray[Any]]:
    """What is known per scene, by its row."""
    scene = tables["scene"]
    split_of = {name: split for split, names in splits.items() for name in names}
    log_row = tables["log"].rows_of(scene, "log_token")
    return {
        "scene_name": scene["name"],
        "description": scene["description"],
        "location": tables["log"]["location"][log_row],
        "weather": np.array([weather(text) for text in scene["description"]], dtype=object),
        "lighting": np.array([lighting(text) for text in scene["description"]], dtype=object),
        "split": np.array([split_of.get(name, "") for name in scene["name"]], dtype=object),
    }


def _left_out(present: Present, frames: int) -> dict[str, Any]:
    """What the stamp says of files that are not there."""
    if frames:
        log.warning("%d frames of which no sensor file is there are left out of the index", frames)
    out: dict[str, Any] = {"missing": present.missing} if present.missing else {}
    return out | ({"missing_frames": frames} if frames else {})


def _is_current(inside: Inside, out: Path, version: str, tables: str, workers: int) -> bool:
    """Whether `out` was made from these tables and from what now lies in the folders of the sensors."""
    try:
        folders = read_stamp(out).get("folders")
        # An index of before there were lists of earlier images is like one of today but for them.
        if folders is None or not (out / PAST_FILE).exists():
            return False
        return is_current(out, version, _source(tables, listing_digest(inside, folders, workers)))
    except BevkdError:
        return False


def _source(tables: str, files: str) -> str:
    return hashlib.sha256(f"{tables} {files}".encode()).hexdigest()


def _read_tables(folder: Path, workers: int, problems: Problems) -> dict[str, Table]:
    for name in _TABLES:  # before the large ones are parsed
        path = folder / f"{name}.json"
        with problems.here(), reading(path, "table"), open_regular(path, TABLE):
            pass
    problems.check()
    names = progress.track(_TABLES, "reading", len(_TABLES), "tables")
    if workers <= 1:
        tables = {}
        for name in names:
            with problems.here():
                tables[name] = read_table(folder, name, _TABLES[name], problems)
        problems.check()
        return tables
    # One process per large table: parsing holds the interpreter lock.
    with process_pool(min(workers, len(_TABLES))) as pool:
        futures = {name: pool.submit(read_table, folder, name, fields) for name, fields in _TABLES.items()}
        tables = {}
        for name in names:
            with problems.here():
                tables[name] = futures[name].result()
    problems.check()
    return {name: replace(table, problems=problems) for name, table in tables.items()}


def _check(tables: dict[str, Table]) -> None:
    for name, most in (("ego_pose", GLOBAL_M), ("calibrated_sensor", MOUNT_M), ("sample_annotation", GLOBAL_M)):
        tables[name].require_within("translation", most)
        tables[name].require_rotation()
    tables["sample_annotation"].require_sizes()
    mounts, sensors = tables["calibrated_sensor"], tables["sensor"]
    mounts.require_cameras(sensors["modality"][sensors.rows_of(mounts, "sensor_token")] == "camera")
    known = {LIDAR: "lidar", **dict.fromkeys(CAMERAS, "camera"), **dict.fromkeys(RADARS, "radar")}
    kinds = zip(sensors["channel"], sensors["modality"], strict=True)
    fits = np.array([known.get(channel, kind) == kind for channel, kind in kinds], dtype=bool)
    sensors.require(fits, "modality", "not what a sensor of this channel is")
    levels = tables["visibility"]
    short = np.array(
        [not token.isdigit() or (len(token) < 4 and int(token) <= _MOST_VISIBLE) for token in levels["token"]],
        dtype=bool,
    )
    levels.require(short, "token", f"a level of visibility is at most {_MOST_VISIBLE}")


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


def _write_past(path: Path, records: Records, frames: list[dict[str, Any]], facts: dict[str, Any]) -> None:
    keys = [rows for part in frames for rows in part["key"]]
    columns = {"token": np.concatenate([part["token"] for part in frames]), "sets": past_sets(records, keys)}
    write_table(path, stamp(PAST, facts), columns)


def _digest(folder: Path, options: ConvertOptions) -> str:
    """SHA-256 over the tables and lists that the index depends on, and over unusual options."""
    total = hashlib.sha256()
    for name in names_in(folder, ".json"):
        with reading(folder / name, "table"), open_regular(folder / name, TABLE) as stream:
            total.update(name.encode() + hashlib.file_digest(stream, "sha256").digest())
    if facts := options.facts():
        total.update(repr(sorted(facts.items())).encode())
    return total.hexdigest()
