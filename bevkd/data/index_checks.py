"""Whether an index can be one: it is a file like any other, that somebody else may have made or a disk damaged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bevkd.classes import LABELS
from bevkd.data import valid
from bevkd.errors import DataError
from bevkd.jsontext import JSONTextError, parse

if TYPE_CHECKING:
    from bevkd.data.index import BoxTable, SensorTable

_ROUNDED = 1e-2  # products of published rotations, and inverses of them
_HARDEST = 3


def read_facts(content: bytes, path: Path) -> dict[str, Any]:
    """The stamp of an index.

    Raises:
        DataError: it is not JSON, lacks something, or something is of another kind.
    """
    try:
        facts = parse(content.decode())
    except (JSONTextError, UnicodeDecodeError) as error:
        raise DataError(f"the stamp cannot be read: {error}", file=path) from error
    if not isinstance(facts, dict):
        raise DataError("the stamp cannot be read: it is no object", file=path)
    return facts


def check_facts(facts: Mapping[str, Any], path: Path) -> None:
    """Check what the stamp of an index of today's format says.

    Raises:
        DataError: something is missing, or of another kind.
    """

    def words(value: Any) -> bool:
        return isinstance(value, list) and all(isinstance(one, str) for one in value)

    def count(value: Any) -> bool:
        return type(value) is int and 0 <= value <= valid.POINTS

    def subsets(value: Any) -> bool:
        return value is None or (isinstance(value, list) and all(map(count, value)))

    def lists(value: Any) -> bool:
        return isinstance(value, dict) and all(map(words, value.values()))

    def classes(value: Any) -> bool:
        known = (None, *LABELS)
        return isinstance(value, dict) and all(
            (one is None or isinstance(one, str)) and one in known for one in value.values()
        )

    wanted = {"reader": lambda v: isinstance(v, str), "splits": words, "frames": count, "labelled_subsets": subsets}
    usual = {"lists": lists, "categories": classes, "missing_sweeps": count, "point_columns": count}
    for name, good in {**wanted, **usual}.items():
        if (name in wanted or name in facts) and not good(facts.get(name)):
            raise DataError(f"the stamp cannot be read: {name} is {facts.get(name)!r:.60}", file=path, field=name)


def _require(good: NDArray[np.bool_], path: Path, field: str, what: str, tokens: Sequence[str] | None = None) -> None:
    if not good.all():
        at = int(np.argmin(good))
        raise DataError(what, file=path, token=tokens[at] if tokens is not None else f"row {at}", field=field)


def check_frames(
    path: Path, tokens: list[str], timestamp: NDArray[np.int64], global_from_ego: NDArray[np.float64]
) -> None:
    """Check the numbers of frames.

    Raises:
        DataError: one cannot be.
    """
    _require(~valid.repeats(tokens), path, "token", "a frame is there twice", tokens)
    _require(valid.within(timestamp, valid.TIME_US), path, "timestamp", "no time stamp", tokens)
    good = valid.good_poses(global_from_ego, valid.GLOBAL_M, _ROUNDED)
    _require(good, path, "global_from_ego", "not a pose", tokens)


def check_sensors(path: Path, sensors: SensorTable) -> None:
    """Check the numbers of records.

    Raises:
        DataError: one cannot be.
    """
    tokens, camera = sensors.token, np.array([name == "camera" for name in sensors.modality], dtype=bool)
    if len(sensors.position) != len(tokens):
        raise DataError("a record is there twice", file=path, field="row")
    _require(valid.within(sensors.timestamp, valid.TIME_US), path, "timestamp", "no time stamp", tokens)
    _require(valid.within(sensors.size, valid.SIDE_PX, 0), path, "width", "not a size of an image", tokens)
    mounted = valid.good_poses(sensors.ego_from_sensor, valid.MOUNT_M, _ROUNDED)
    _require(mounted, path, "ego_from_sensor", "not a pose", tokens)
    placed = valid.good_poses(sensors.global_from_ego, valid.GLOBAL_M, _ROUNDED)
    _require(placed, path, "global_from_ego", "not a pose", tokens)
    _require(
        ~camera | valid.good_intrinsics(sensors.intrinsics),
        path, "intrinsics", "not a matrix of a pinhole camera", tokens,
    )  # fmt: skip


def check_boxes(path: Path, boxes: BoxTable) -> None:
    """Check the numbers of boxes; velocities may be unknown.

    Raises:
        DataError: one cannot be.
    """
    tokens, values = boxes.tokens, boxes.boxes
    _require(valid.within(values[:, :3], valid.GLOBAL_M), path, "box", "a place that is none", tokens)
    _require(valid.good_sizes(values[:, 3:6]), path, "box", "a size that is none", tokens)
    _require(valid.within(values[:, 6], valid.ANGLE), path, "box", "a heading that is none", tokens)
    _require(np.all(~np.isinf(values[:, 7:]), axis=1), path, "box", "a velocity that is none", tokens)
    _require(valid.within(boxes.labels, len(LABELS) - 1, -1), path, "label", "no class", tokens)
    _require(valid.within(boxes.difficulty, _HARDEST, -1), path, "difficulty", "no difficulty", tokens)
    _require(boxes.lidar_points >= 0, path, "num_lidar_pts", "a number of points must not be negative", tokens)
    _require(boxes.points >= boxes.lidar_points, path, "num_radar_pts", "must not be negative", tokens)


def check_links(
    path: Path, tokens: list[str], lists: Mapping[str, list[list[int]]], sensors: SensorTable, loaded: Sequence[str]
) -> None:
    """Check the rows of `sensors` that frames list: earlier sweeps are there, and of each sensor there is one record.

    Args:
        path: of `frames`.
        tokens: of the frames.
        lists: `key`, `lidar_sweeps` and `radar_sweeps`.
        sensors: the records of the modalities that are loaded.
        loaded: those modalities.

    Raises:
        DataError: a frame lists a row that is not there, or two of one sensor.
    """
    modality = {row: sensors.modality[at] for row, at in sensors.position.items()}
    for name, kind in (("lidar_sweeps", "lidar"), ("radar_sweeps", "radar")):
        if kind in loaded:
            for token, rows in zip(tokens, lists[name], strict=True):
                if any(modality.get(row) != kind for row in rows):
                    raise DataError("a frame lists a record that is not there", file=path, token=token, field=name)
    for token, rows in zip(tokens, lists["key"], strict=True):
        channels = [sensors.channel[sensors.position[row]] for row in rows if row in sensors.position]
        if len(set(channels)) < len(channels):
            raise DataError("a frame has two records of one sensor", file=path, token=token, field="key")
