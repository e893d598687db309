"""`convert_waymo`: Waymo Open Dataset v2 -> Parquet index; sensor data stays where it is."""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bevkd import __version__, progress
from bevkd.data.index import BOXES, FORMAT, FRAMES, SENSORS, stamp
from bevkd.data.inside import Inside
from bevkd.data.labelled import Subsets, read_labelled, without_labels
from bevkd.data.options import ConvertOptions, Problems
from bevkd.data.waymo.components import COMPONENTS
from bevkd.data.waymo.tables import OF_SENSOR, UNLABELLED, segment_tables
from bevkd.data.waymo.tables import without_labels as is_without_labels
from bevkd.data.waymo.tables import without_sensor as is_without_sensor
from bevkd.data.write import arrow_table, converter, fresh_folder, is_current
from bevkd.errors import ConfigError, DataError
from bevkd.io import atomic_path, names_in, read_bytes, reading, writing
from bevkd.processes import mapped

log = logging.getLogger(__name__)

VERSION = "v2"
# Folder of the data set -> split. Labels of test sets are not published, nor are all of those of other places.
FOLDERS = {
    "training": "train",
    "tuning": "tune",
    "validation": "val",
    "testing": "test",
    "testing_location": "test_location",
    "testing_3d_camera_only_detection": "test_camera_only",
    "domain_adaptation_training": "domain_train",
    "domain_adaptation_validation": "domain_val",
    "domain_adaptation_testing": "domain_test",
}
_SENSOR_DATA = ("lidar", "lidar_pose", "camera_image")  # large; of the others every byte counts
_SCHEMAS = {"frames": FRAMES, "sensors": SENSORS, "boxes": BOXES}


@converter
def convert_waymo(root: str | Path, out: str | Path, workers: int = 1, options: ConvertOptions | None = None) -> Path:
    """Write the index of a folder of Waymo Open Dataset v2 components.

    Every frame is a keyframe of its own, with the ten frames before it as sweeps. Segments are worked on one by one
    and their parts kept beside `out` until the index is complete, so that memory stays bounded and a conversion that
    was interrupted goes on where it stopped. An index that was made from the same files by the same format is left as
    it is.

    Args:
        root: folder with `training/`, `validation/`, `testing/` and others of `FOLDERS`, each holding
            `<component>/<segment>.parquet`, and perhaps a `labelled.json` with subsets of frames whose labels may be
            used.
        out: the index folder.
        workers: processes.
        options: where the data set differs from Waymo's rules.

    Raises:
        ConfigError: an option that means nothing here.
        DataError: no segment; a component, a column or a row is missing, a row group is broken, a pose is not finite,
            a box has a size that is not positive, an image another size than its calibration says.
    """
    root, out, options = Path(root), Path(out), options or ConvertOptions()
    problems = options.problems
    if options.point_columns is not None:
        raise ConfigError("Waymo components name their columns: there is no number of columns of a point to be set")
    segments = _segments(root, options)
    source = _digest(root, segments, options)
    if not problems.collect and is_current(out, VERSION, source):
        log.info("%s is up to date", out)
        return out
    parts = out.parent / f".{out.name}.{source[:12]}-{FORMAT}-{__version__}.parts"
    for stale in set(out.parent.glob(f".{out.name}.*.parts")) - {parts}:  # of other files, or of other code
        shutil.rmtree(stale, ignore_errors=True)
    with writing(parts):
        parts.mkdir(parents=True, exist_ok=True)
    task = partial(_write_part, root, parts, replace(options, problems=Problems(problems.collect)))
    try:
        for errors in progress.track(mapped(task, segments, workers), "indexing", len(segments), "segments"):
            for error in errors:
                problems.add(error)
        problems.check()
    except BaseException:
        _drop_if_empty(parts)
        raise
    tokens, total = [], {"sensors": 0, "boxes": 0}
    for segment in segments:
        tokens += pq.read_table(_part(parts, segment, "frames"), columns=["token"])["token"].to_pylist()
    counts = [pq.read_metadata(_part(parts, segment, "frames")).num_rows for segment in segments]
    missing, blank = _left_out(root, segments, counts, options)
    subsets, labelled = read_labelled(root / "labelled.json", tokens, problems, absent=options.partial)
    problems.check()
    if options.missing_labels == "unlabelled" and any(blank):
        subsets, labelled = without_labels(subsets, labelled, blank)
    facts: dict[str, Any] = {
        "reader": "waymo",
        "version": VERSION,
        "source": source,
        "splits": sorted({FOLDERS[segment.split("/")[0]] for segment in segments}),
        "labelled_subsets": subsets,
        "frames": len(tokens),
        "unlabelled": 0,
        "missing_sweeps": 0,
        **({"missing": missing} if missing else {}),
        **({"without_labels": sum(blank)} if any(blank) else {}),
        **options.facts(),
    }
    with fresh_folder(out) as temporary:
        writers = {
            name: pq.ParquetWriter(temporary / f"{name}.parquet", stamp(schema, facts), compression="zstd")
            for name, schema in _SCHEMAS.items()
        }
        offset = {"frames": 0, "sensors": 0}
        for scene, segment in enumerate(segments):
            tables = {name: pq.read_table(_part(parts, segment, name)) for name in _SCHEMAS}
            low = offset["frames"]
            members = None if labelled is None else labelled[low : low + len(tables["frames"])]
            for name, table in _placed(tables, scene, offset, members).items():
                writers[name].write_table(table.cast(writers[name].schema))
                total[name] = total.get(name, 0) + len(table)
            offset = {name: offset[name] + len(tables[name]) for name in offset}
        for writer in writers.values():
            writer.close()
    shutil.rmtree(parts, ignore_errors=True)
    log.info("%s: %d frames of %d segments, %d boxes", out, len(tokens), len(segments), total["boxes"])
    return out


def _left_out(
    root: Path, segments: list[str], counts: list[int], options: ConvertOptions
) -> tuple[dict[str, int], list[bool]]:
    """Sensor -> frames of segments without its components; and of every frame whether its segment has no labels."""
    missing: Counter[str] = Counter()
    blank: list[bool] = []
    for segment, count in zip(segments, counts, strict=True):
        for sensor in OF_SENSOR:
            if is_without_sensor(root, segment, sensor, options.partial):
                missing[sensor] += count
        unlabelled = is_without_labels(root, segment) and not segment.startswith(UNLABELLED)
        blank += [unlabelled] * count
    for sensor, count in sorted(missing.items()):
        log.warning("%s: the components of %d frames are missing and left out of the index", sensor, count)
    return dict(sorted(missing.items())), blank


def _drop_if_empty(parts: Path) -> None:
    with suppress(OSError):  # what is complete stays for the next time
        parts.rmdir()


def _segments(root: Path, options: ConvertOptions) -> list[str]:
    """`<folder>/<segment>` of every segment, by folder, then by name.

    Raises:
        DataError: none, or one without `vehicle_pose`, which says what its frames are; where parts may be missing such
            segments are left out.
    """
    out: list[str] = []
    for folder in FOLDERS:
        posed = names_in(root / folder / "vehicle_pose", ".parquet")
        out += [f"{folder}/{name.removesuffix('.parquet')}" for name in posed]
        held = {name for component in COMPONENTS for name in names_in(root / folder / component, ".parquet")}
        without = sorted(held - set(posed))
        if without and (options.partial or not posed):
            log.warning("%s: %d segments without vehicle_pose are left out", root / folder, len(without))
            continue
        for name in without:
            message = "component is missing (`convert --partial` leaves the segment out)"
            options.problems.add(DataError(message, file=root / folder / "vehicle_pose" / name))
    if not out:
        raise DataError("no segment: there is no <split>/vehicle_pose/*.parquet", file=root)
    return out


def _digest(root: Path, segments: list[str], options: ConvertOptions) -> str:
    """SHA-256 over the component files, and over unusual options.

    Of sensor data, which are many gigabytes, sizes and footers say enough: a footer holds offsets and statistics. A
    label that is corrected in place need change neither.
    """
    total, inside = hashlib.sha256(), Inside(root, options.link_targets)
    for segment in segments:
        folder, name = segment.split("/")
        total.update(segment.encode())
        for component in COMPONENTS:
            path = inside.path(f"{folder}/{component}/{name}.parquet", segment)
            if path.is_file():
                with reading(path, "component"), open(path, "rb") as stream:
                    size = path.stat().st_size
                    stream.seek(max(0, size - 4096) if component in _SENSOR_DATA else 0)
                    total.update(f"{component} {size}".encode() + hashlib.file_digest(stream, "sha256").digest())
    path = root / "labelled.json"
    total.update(read_bytes(path) if path.is_file() else b"-")
    if facts := options.facts():
        total.update(repr(sorted(facts.items())).encode())
    return total.hexdigest()


def _part(parts: Path, segment: str, table: str) -> Path:
    return parts / f"{segment.replace('/', '__')}.{table}.parquet"


def _write_part(root: Path, parts: Path, options: ConvertOptions, segment: str) -> list[DataError]:
    """Write the tables of one segment; `frames`, the last of them, says that the others are complete.

    Returns:
        what is wrong with the segment, where problems are collected.
    """
    if _part(parts, segment, "frames").exists():
        return []
    folder = segment.split("/")[0]
    options = replace(options, problems=Problems(options.problems.collect))
    usual = options == ConvertOptions() and not options.problems.collect
    try:
        columns = segment_tables(root, segment, FOLDERS[folder], **({} if usual else {"options": options}))
    except DataError as error:
        if not options.problems.collect:
            raise
        return options.problems.found or [error]
    for name in ("sensors", "boxes", "frames"):
        table = arrow_table(_SCHEMAS[name], columns[name])
        with atomic_path(_part(parts, segment, name)) as temporary:
            pq.write_table(table, temporary)
    return []


def _placed(
    tables: dict[str, pa.Table], scene: int, offset: dict[str, int], labelled: Subsets | None
) -> dict[str, pa.Table]:
    """The tables of a segment with scene, frame and sensor numbers of the whole index."""
    frames, sensors, boxes = tables["frames"], tables["sensors"], tables["boxes"]
    n = len(frames)
    for name in ("key", "lidar_sweeps"):
        moved = [[row + offset["sensors"] for row in rows] for rows in frames[name].to_pylist()]
        frames = _replace(frames, name, moved)
    frames = _replace(frames, "scene", np.full(n, scene))
    frames = _replace(frames, "labelled", [None] * n if labelled is None else labelled)
    sensors = _replace(sensors, "row", np.arange(len(sensors)) + offset["sensors"])
    sensors = _replace(sensors, "scene", np.full(len(sensors), scene))
    boxes = _replace(boxes, "frame", boxes["frame"].to_numpy() + offset["frames"])
    boxes = _replace(boxes, "scene", np.full(len(boxes), scene))
    return {"frames": frames, "sensors": sensors, "boxes": boxes}


def _replace(table: pa.Table, name: str, values: Any) -> pa.Table:
    at = table.schema.get_field_index(name)
    return table.set_column(at, name, pa.array(values, table.schema.field(name).type))
