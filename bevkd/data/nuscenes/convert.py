"""`convert_nuscenes`: nuScenes tables of any version -> Parquet index; sensor data stays where it is."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from bevkd.data.index import BOXES, FRAMES, SENSORS, read_stamp, stamp
from bevkd.data.nuscenes.annotations import box_columns
from bevkd.data.nuscenes.frames import Records, frame_columns, sort_records, sweep_frames
from bevkd.data.nuscenes.names import lighting, scene_splits, weather
from bevkd.data.nuscenes.tables import Table, read_table
from bevkd.errors import BevkdError, DataError
from bevkd.io import read_json

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
    if _is_current(out, version, source):
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
    subsets, labelled = _labelled(folder, [t.decode() for t in key_frames["token"]])
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
    with _fresh_folder(out) as temporary:
        _write_frames(temporary / "frames.parquet", key_frames, words, labelled, facts)
        if between is not None:
            _write_frames(temporary / "unlabelled.parquet", between, words, None, facts)
        _write_sensors(temporary / "sensors.parquet", tables, records, facts)
        boxes = box_columns(tables, key_frames, sample_scene)
        _write(temporary / "boxes.parquet", stamp(BOXES, facts), boxes)
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
    with ProcessPoolExecutor(min(workers, len(_TABLES)), mp_context=get_context("spawn")) as pool:
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


def _labelled(folder: Path, tokens: list[str]) -> tuple[list[int] | None, list[list[int]] | None]:
    """Labelled subsets of the version and, for each frame, those that hold it."""
    path = folder / "labelled.json"
    if not path.exists():
        return None, None
    content = read_json(path)
    if not isinstance(content, dict) or not all(k.isdecimal() and isinstance(v, list) for k, v in content.items()):
        raise DataError("must map subset numbers to lists of sample tokens", file=path)
    position = {token: i for i, token in enumerate(tokens)}
    out: list[list[int]] = [[] for _ in tokens]
    for key in sorted(content, key=int):
        for token in content[key]:
            if token not in position:
                raise DataError("labelled frame does not exist", file=path, token=str(token), field=key)
            out[position[token]].append(int(key))
    return sorted(int(key) for key in content), out


def _write_frames(
    path: Path,
    frames: dict[str, Any],
    words: dict[str, NDArray[Any]],
    labelled: list[list[int]] | None,
    facts: dict[str, Any],
) -> None:
    n = len(frames["token"])
    columns = {**frames, **{name: values[frames["scene"]] for name, values in words.items()}}
    columns["labelled"] = labelled if labelled is not None else [None] * n
    _write(path, stamp(FRAMES, facts), columns)


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
            writer.write_table(_table(schema, columns))


def _write(path: Path, schema: pa.Schema, columns: dict[str, Any]) -> None:
    pq.write_table(_table(schema, columns), path, compression="zstd")


def _table(schema: pa.Schema, columns: dict[str, Any]) -> pa.Table:
    return pa.Table.from_arrays([_array(columns[field.name], field.type) for field in schema], schema=schema)


def _array(values: Any, kind: pa.DataType) -> pa.Array:
    if pa.types.is_fixed_size_list(kind):
        return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(values).reshape(-1)), kind.list_size)
    if isinstance(values, np.ndarray) and values.dtype.kind == "S":
        values = pa.array(values.tolist(), pa.binary()).cast(pa.string())
    if pa.types.is_dictionary(kind):
        return pa.array(values, pa.string()).dictionary_encode().cast(kind)
    return values if isinstance(values, pa.Array) else pa.array(values, kind)


def _digest(folder: Path) -> str:
    """SHA-256 over the tables and lists that the index depends on."""
    total = hashlib.sha256()
    for path in sorted(folder.glob("*.json")):
        with open(path, "rb") as stream:
            total.update(path.name.encode() + hashlib.file_digest(stream, "sha256").digest())
    return total.hexdigest()


def _is_current(out: Path, version: str, source: str) -> bool:
    try:
        facts = read_stamp(out)
    except BevkdError:
        return False
    return bool(facts.get("version") == version and facts.get("source") == source)


@contextmanager
def _fresh_folder(out: Path) -> Iterator[Path]:
    """A temporary folder that becomes `out` when the block succeeds, and disappears when it does not."""
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.exists() and any(out.iterdir()) and not (out / "frames.parquet").exists():
        raise DataError("folder is not empty and holds no index", file=out)
    temporary = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".tmp", dir=out.parent))
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o777 & ~umask)
        for path in temporary.iterdir():
            with open(path, "rb") as stream:
                os.fsync(stream.fileno())
        if out.exists():
            old = temporary.with_suffix(".old")
            os.replace(out, old)
            os.replace(temporary, out)
            shutil.rmtree(old)
        else:
            os.replace(temporary, out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
