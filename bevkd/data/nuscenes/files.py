"""Which sensor files of nuScenes tables are there, and whether they are what the tables say."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import stat
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bevkd import progress
from bevkd.data.checks import check_centre, check_points, check_size, image_size
from bevkd.data.inside import Inside
from bevkd.data.nuscenes.frames import Records
from bevkd.data.nuscenes.tables import Table
from bevkd.data.options import ConvertOptions
from bevkd.data.points import read_lidar
from bevkd.data.radar import read_radar
from bevkd.errors import DataError
from bevkd.io import reading, reason

log = logging.getLogger(__name__)

COLUMNS, MOST_INTENSITY = 5, 255.0
_STATS = 1024  # files that a thread looks at in one go
_ABSENT = -1


@dataclass(frozen=True)
class Present:
    """What is there.

    Attributes:
        records: (N,) which records have a file.
        missing: channel -> key records without one.
        sweeps: records between keyframes without one.
    """

    records: NDArray[np.bool_]
    missing: dict[str, int]
    sweeps: int


def folders_of(data: Table) -> list[str]:
    """The folders in which the files of `sample_data` lie, relative to the root."""
    return sorted({name.rpartition(b"/")[0].decode() for name in data["filename"].tolist()})


def listing_digest(inside: Inside, folders: Iterable[str], workers: int = 1) -> str:
    """SHA-256 over the names of all files of some folders, and over the sizes of point clouds and files of keyframes.

    What comes later, or is replaced, so makes another index. Of the rest, which are many, names say enough.

    Args:
        inside: the root of the data set.
        folders: relative to it.
        workers: processes that may be busy.

    Raises:
        DataError: a folder cannot be read, or is not within the root.
    """
    total, folders = hashlib.sha256(), list(folders)
    for folder in folders:
        inside.path(folder)
    with ThreadPoolExecutor(max(1, 4 * workers)) as pool:  # network file systems answer many questions at once
        for listing in pool.map(lambda folder: _listing(inside.root, folder), folders):
            total.update(listing)
    return total.hexdigest()


def _listing(root: Path, folder: str) -> bytes:
    key = folder.split("/")[0] == "samples"
    try:
        with os.scandir(root / folder) as entries:
            sized = ((entry.name, _size(entry) if key or entry.name.endswith(".bin") else 0) for entry in entries)
            names = sorted(f"{name} {size}" for name, size in sized)
    except FileNotFoundError:
        names = []
    except OSError as error:
        raise DataError(f"cannot be read: {reason(error)}", file=root / folder) from error
    return f"{folder}/".encode() + "\n".join(names).encode(errors="surrogateescape")


def _size(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat().st_size
    except OSError:  # said when the file itself is looked at
        return _ABSENT


def find_files(root: Path, data: Table, records: Records, workers: int, options: ConvertOptions) -> Present:
    """Which records have a file.

    Key records must have one, unless a whole sensor of a scene was not downloaded, or `options.partial`. Files must not
    be empty, and those of LiDARs hold whole points.

    Raises:
        DataError: a file is missing, empty, truncated, or cannot be looked at.
    """
    names = data["filename"][records.row]
    sizes, refused = _sizes(Inside(root, options.link_targets), names, workers)
    absent = sizes == _ABSENT
    for at, why in sorted(refused.items()):
        options.problems.add(_error(root, data, records, at, f"cannot be read: {why}"))
    # Of a sensor that was not downloaded for a scene not one key file is there.
    starts = np.flatnonzero(np.r_[True, np.diff(records.group) != 0]) if len(records.row) else np.zeros(0, np.int64)
    group = np.cumsum(np.r_[False, np.diff(records.group) != 0]) if len(records.row) else np.zeros(0, np.int64)
    there = np.bincount(group, weights=records.is_key & ~absent, minlength=len(starts))
    alone = records.is_key & absent & (there[group] > 0)
    point = 4 * (options.point_columns or COLUMNS)
    lidar = records.modality == "lidar"
    checks = [
        (sizes == 0, "file is empty"),
        (
            lidar & (sizes > 0) & (sizes % point != 0),
            f"truncated LiDAR file: its size is not a multiple of {point} bytes",
        ),
    ]
    if not options.partial:
        checks.insert(0, (alone, "file is missing (`convert --partial` indexes what is there)"))
    for bad, message in checks:
        for at in np.flatnonzero(bad).tolist():
            options.problems.add(_error(root, data, records, at, message))
    missing = Counter(records.channel[records.is_key & absent].tolist())
    sweeps = int((absent & ~records.is_key).sum())
    if sweeps:
        log.warning("%d files between keyframes are missing and left out of the index", sweeps)
    for channel, count in sorted(missing.items()):
        log.warning("%s: %d files of keyframes are missing and left out of the index", channel, count)
    return Present(sizes > 0, dict(sorted(missing.items())), sweeps)


def _sizes(inside: Inside, names: NDArray[np.bytes_], workers: int) -> tuple[NDArray[np.int64], dict[int, str]]:
    """Size of every file (N,), -1 where it is missing, -2 where the system refuses to say; and what it says then."""
    base = os.fsencode(inside.root)

    def size(name: bytes) -> int | str:
        if (why := inside.refused(os.fsdecode(name))) is not None:
            return why
        try:
            found = os.stat(os.path.join(base, name))
            if stat.S_ISDIR(found.st_mode):
                return reason(IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR)))
            return found.st_size if stat.S_ISREG(found.st_mode) else "not a regular file"
        except FileNotFoundError:
            return _ABSENT
        except OSError as error:
            return reason(error)

    def sizes_of(part: NDArray[np.bytes_]) -> list[int | str]:
        return [size(name) for name in part.tolist()]

    parts = [names[low : low + _STATS] for low in range(0, len(names), _STATS)]
    with ThreadPoolExecutor(max(1, 4 * workers)) as pool:  # network file systems answer many questions at once
        looked = progress.track(pool.map(sizes_of, parts), "looking at files", len(parts), "parts")
        found = [one for part in looked for one in part]
    refused = {at: one for at, one in enumerate(found) if isinstance(one, str)}
    return np.array([-2 if isinstance(one, str) else one for one in found], dtype=np.int64), refused


def _error(root: Path, data: Table, records: Records, at: int, message: str) -> DataError:
    row = records.row[at]
    name, token = data["filename"][row].decode(), data["token"][row].decode()
    return DataError(message, file=root / name, token=token, field="filename")


def look_into(root: Path, tables: dict[str, Table], records: Records, workers: int, options: ConvertOptions) -> None:
    """Open some files of keyframes and compare them with the tables: the first one of every sensor of every scene or,
    where problems are collected, all of them.

    Raises:
        DataError: an image has another size, points are not what the format holds, or a file cannot be read.
    """
    key = np.flatnonzero(records.is_key)
    if not options.problems.collect:
        _, first = np.unique(records.group[key], return_index=True)
        key = key[first]
    data, inside = tables["sample_data"], Inside(root, options.link_targets)

    def look(part: Sequence[int]) -> list[DataError]:
        return [error for at in part if (error := _compare(inside, tables, data, records, at, options)) is not None]

    parts = [key[low : low + _STATS].tolist() for low in range(0, len(key), _STATS)]
    with ThreadPoolExecutor(max(1, 4 * workers)) as pool:
        for errors in progress.track(pool.map(look, parts), "opening files", len(parts), "parts"):
            for error in errors:
                options.problems.add(error)


def _compare(
    inside: Inside, tables: dict[str, Table], data: Table, records: Records, at: int, options: ConvertOptions
) -> DataError | None:
    row = records.row[at]
    name, token = data["filename"][row].decode(), data["token"][row].decode()
    try:
        path = inside.path(name, token)
        if records.modality[at] == "camera":
            found, known = image_size(path, token), (int(data["width"][row]), int(data["height"][row]))
            if not options.rescale_images:
                check_size(found, known, path, token)
                intrinsics = tables["calibrated_sensor"]["camera_intrinsic"][records.calibration[at]]
                check_centre(intrinsics, known if min(known) > 0 else found, path, token)
        elif records.modality[at] == "radar":
            read_radar(path, token)
        else:
            with reading(path, "LiDAR file", token=token, field="filename"):
                points = read_lidar(path, token, options.point_columns or COLUMNS)
            check_points(points, MOST_INTENSITY, path, token)
    except DataError as error:
        return error
    return None
