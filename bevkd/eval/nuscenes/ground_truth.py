"""Annotations of a split, read from `v1.0-*` tables into columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np

from bevkd.classes import CLASS_INDEX
from bevkd.data import valid
from bevkd.errors import DataError, nearest
from bevkd.eval.nuscenes.boxes import Boxes, Floats, Ints, make_boxes
from bevkd.eval.nuscenes.columns import BAD_VALUE, checked_matrix, first_bad
from bevkd.eval.nuscenes.constants import ATTRIBUTE_INDEX, BIKE_RACK, CLASS_OF_CATEGORY, NO_ATTRIBUTE
from bevkd.eval.nuscenes.jsonio import collector_paused, iter_records
from bevkd.eval.nuscenes.splits import split_scenes
from bevkd.splits import custom_splits

MAX_TIME_DIFF_S = 1.5  # annotations further apart in time give no velocity
# Fields that are no text.
_TYPES: dict[str, type] = {
    **dict.fromkeys(("timestamp", "num_lidar_pts", "num_radar_pts"), int),
    **dict.fromkeys(("translation", "rotation", "size", "attribute_tokens"), list),
    "is_key_frame": bool,
}
_WORDS: dict[type, str] = {str: "text", int: "an integer", list: "a list", bool: "true or false"}
_IGNORED, _RACK = -2, -1  # labels of categories that are no detection class


@dataclass(frozen=True, slots=True)
class GroundTruth:
    """Annotations of one split in the global frame.

    Attributes:
        tokens: sample tokens of the split, in table order; frames without annotations are among them.
        ego_translation: (S, 3) position of the vehicle at the LIDAR_TOP timestamp of each frame.
        boxes: annotations of the ten classes.
        racks: bicycle racks; two-wheelers inside them do not count.
        others: tokens outside the split that a submission may hold nevertheless (custom splits only).
        descriptions: (S,) of the scene of each frame, None where the tables have none; empty: not known at all.
    """

    tokens: tuple[str, ...]
    ego_translation: Floats
    boxes: Boxes
    racks: Boxes
    others: frozenset[str] = frozenset()
    descriptions: tuple[str | None, ...] = ()
    index: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "index", {token: i for i, token in enumerate(self.tokens)})


def load_ground_truth(
    root: str | Path, version: str, split: str, categories: Mapping[str, str | None] | None = None
) -> GroundTruth:
    """Read the annotations of `split` from `<root>/<version>/*.json`.

    Args:
        root, version, split: of the data set.
        categories: own category names and the classes they count as, as of `FrameIndex.open`.

    Raises:
        ConfigError: no such split in this version.
        DataError: a table is missing or broken, a record refers to nothing, a value is not finite, or the split is
            empty.
    """
    with collector_paused():
        return _load(Path(root) / version, *split_scenes(Path(root), version, split), categories or {})


def _load(folder: Path, scene_names: list[str], official: bool, own: Mapping[str, str | None]) -> GroundTruth:
    names: dict[str, str] = {}
    described: dict[str, str | None] = {}
    for token, name, text in _rows(folder / "scene.json", "token", "name", also="description"):
        names[token], described[token] = name, text if isinstance(text, str) else None
    wanted = set(scene_names)
    if not official:
        custom_splits(folder, names.values())  # compared, as by a conversion
    tokens: list[str] = []
    others: set[str] = set()
    times: list[int] = []
    descriptions: list[str | None] = []
    path = folder / "sample.json"
    for token, time_us, scene in _rows(path, "token", "timestamp", "scene_token"):
        if _refer(names, scene, path, token, "scene_token") in wanted:
            tokens.append(token)
            times.append(time_us)
            descriptions.append(described[scene])
        else:
            others.add(token)
    if not tokens:
        raise DataError("no scene of the split is in these tables", file=folder)
    index = {token: i for i, token in enumerate(tokens)}
    when = _counts(tuple(times), tuple(tokens), path, "timestamp", valid.TIME_US)
    boxes, racks = _annotations(folder, index, when, own)
    ego = _ego_translations(folder, index)
    known = frozenset() if official else frozenset(others)
    return GroundTruth(tuple(tokens), ego, boxes, racks, known, tuple(descriptions))


def _rows(path: Path, *names: str, large: bool = False, also: str = "") -> Iterator[Any]:
    """The named fields of every record, as tuples, each of the type that it has in all tables; no token is there twice.

    Args:
        path: the table.
        *names: of the fields, `token` first.
        large: millions of records, whose tokens are too many to be remembered.
        also: a last field, unchecked, that a record may lack: None.

    Raises:
        DataError: a field is missing or of another type, a token is used twice, or the table is broken.
    """
    get = itemgetter(*names)
    seen: set[str] = set()
    for records in iter_records(path):
        try:
            rows = list(map(get, records))
        except KeyError as error:
            name = error.args[0]
            bad = next(record for record in records if name not in record)
            raise DataError("field is missing", file=path, token=_token(bad), field=name) from None
        for name, values in zip(names, zip(*rows, strict=True), strict=True):
            kind = _TYPES.get(name, str)
            if not set(map(type, values)) <= {kind} or (kind is str and "\0" in "".join(values)):
                at = first_bad(values, partial(_odd, kind))
                what = f"must be {_WORDS[kind]}, not {values[at]!r:.80}"
                raise DataError(what, file=path, token=_token(records[at]), field=name)
        for token in () if large else (row[0] for row in rows):
            if token in seen:
                raise DataError("token is used twice", file=path, token=token, field="token")
            seen.add(token)
        if also:
            rows = [(*row, record.get(also)) for row, record in zip(rows, records, strict=True)]
        yield from rows


def _token(record: Mapping[str, Any]) -> str | None:
    token = record.get("token")
    return token if isinstance(token, str) else None


def _refer(table: dict[str, Any], key: Any, path: Path, token: str, name: str) -> Any:
    try:
        return table[key]
    except (KeyError, TypeError):
        raise DataError(f"refers to nothing: {key!r}", file=path, token=token, field=name) from None


def _ego_translations(folder: Path, index: dict[str, int]) -> Floats:
    lidar = {token for token, channel in _rows(folder / "sensor.json", "token", "channel") if channel == "LIDAR_TOP"}
    calibrated = {
        token for token, sensor in _rows(folder / "calibrated_sensor.json", "token", "sensor_token") if sensor in lidar
    }
    path = folder / "sample_data.json"
    data_of_frame: dict[str, tuple[str, str]] = {}  # sample -> tokens of its LIDAR_TOP data and pose
    for token, sample, sensor, is_key, pose in _rows(
        path, "token", "sample_token", "calibrated_sensor_token", "is_key_frame", "ego_pose_token", large=True
    ):
        if is_key and sensor in calibrated and sample in index:
            if sample in data_of_frame:
                raise DataError(
                    "sample has two key records of LIDAR_TOP", file=path, token=sample, field="sample_token"
                )
            data_of_frame[sample] = (token, pose)
    for sample in index:
        if sample not in data_of_frame:
            raise DataError("sample has no LIDAR_TOP keyframe", file=path, token=sample, field="sample_token")
    used = [data_of_frame[sample] for sample in index]
    needed = {pose for _, pose in used}
    file = folder / "ego_pose.json"
    poses: dict[str, Any] = {}
    for token, translation in _rows(file, "token", "translation", large=True):
        if token in needed:
            if token in poses:
                raise DataError("token is used twice", file=file, token=token, field="token")
            poses[token] = translation
    rows = [_refer(poses, pose, path, token, "ego_pose_token") for token, pose in used]
    tokens = [pose for _, pose in used]
    return checked_matrix(rows, 3, file=file, field="translation", tokens=tokens, most=valid.GLOBAL_M)


def _labels(folder: Path, own: Mapping[str, str | None]) -> dict[str, int]:
    """Label of every instance: a class, a bicycle rack, or ignored."""
    named = {name.casefold(): label or "" for name, label in own.items()}

    def label_of(name: str) -> int:
        usual = "" if not isinstance(name, str) else CLASS_OF_CATEGORY.get(name, "")
        return CLASS_INDEX.get(named.get(str(name).casefold(), usual), _IGNORED)

    labels = {
        token: _RACK if name == BIKE_RACK else label_of(name)
        for token, name in _rows(folder / "category.json", "token", "name")
    }
    path = folder / "instance.json"
    return {
        token: _refer(labels, category, path, token, "category_token")
        for token, category in _rows(path, "token", "category_token")
    }


def _annotations(
    folder: Path, index: dict[str, int], time_us: Ints, own: Mapping[str, str | None]
) -> tuple[Boxes, Boxes]:
    path = folder / "sample_annotation.json"
    label_of = _labels(folder, own)
    names = ("token", "sample_token", "instance_token", "attribute_tokens", "translation", "size", "rotation")
    rows = [r for r in _rows(path, *names, "prev", "next", "num_lidar_pts", "num_radar_pts") if r[1] in index]
    if not rows:
        raise DataError("the split has no annotation; labels of test sets are not published", file=path)
    tokens, samples, instances, attributes, translations, sizes, rotations, prevs, nexts, n_lidar, n_radar = zip(
        *rows, strict=True
    )
    frame = np.array([index[sample] for sample in samples])
    label = np.array([_refer(label_of, i, path, t, "instance_token") for i, t in zip(instances, tokens, strict=True)])
    translation = checked_matrix(translations, 3, file=path, field="translation", tokens=tokens, most=valid.GLOBAL_M)
    rotation = checked_matrix(rotations, 4, file=path, field="rotation", tokens=tokens, most=valid.GLOBAL_M)
    unit = valid.good_quaternions(rotation)
    if not unit.all():
        token = tokens[int(np.argmin(unit))]
        raise DataError("quaternion does not have unit length", file=path, token=token, field="rotation")
    everything = make_boxes(
        frame,
        translation,
        checked_matrix(sizes, 3, file=path, field="size", tokens=tokens, most=valid.SIZE_M, positive=True),
        rotation,
        _velocities(tokens, prevs, nexts, translation, 1e-6 * time_us[frame], path),
        label,
        attribute=_attributes(folder, attributes, tokens, path, label >= 0),
        num_points=_counts(n_lidar, tokens, path, "num_lidar_pts", valid.POINTS)
        + _counts(n_radar, tokens, path, "num_radar_pts", valid.POINTS),
    )
    return everything.take(label >= 0), everything.take(label == _RACK)


def _counts(values: tuple[int, ...], tokens: tuple[str, ...], path: Path, name: str, most: int) -> Ints:
    if min(values) >= 0 and max(values) <= most:
        return np.array(values, dtype=np.int64)
    at = first_bad(values, lambda value: not 0 <= value <= most)
    raise DataError(f"must be from 0 to {most}, not {values[at]!r:.40}", file=path, token=tokens[at], field=name)


def _attributes(folder: Path, lists: tuple[list[str], ...], tokens: tuple[str, ...], path: Path, counted: Any) -> Ints:
    """(N,) attribute indices; only annotations that count are checked."""
    names = dict(_rows(folder / "attribute.json", "token", "name"))
    out = np.full(len(lists), NO_ATTRIBUTE)
    for i in np.flatnonzero(counted):
        held = lists[i]
        if not held:
            continue
        if len(held) > 1:
            raise DataError("more than one attribute", file=path, token=tokens[i], field="attribute_tokens")
        name = _refer(names, held[0], path, tokens[i], "attribute_tokens")
        if name not in ATTRIBUTE_INDEX:
            hint = nearest(name, ATTRIBUTE_INDEX)
            raise DataError(f"unknown attribute {name!r}{hint}", file=path, token=tokens[i], field="attribute_tokens")
        out[i] = ATTRIBUTE_INDEX[name]
    return out


def _velocities(
    tokens: tuple[str, ...],
    prevs: tuple[str, ...],
    nexts: tuple[str, ...],
    translation: Floats,
    time_s: Floats,
    path: Path,
) -> Floats:
    """(N, 2) velocity from the neighbours in time of the same object; NaN where there are none near enough."""
    row = {token: i for i, token in enumerate(tokens)}

    def neighbours(links: tuple[str, ...], name: str) -> Ints:
        try:
            return np.array([row[link] if link else i for i, link in enumerate(links)])
        except BAD_VALUE:
            at = first_bad(links, lambda link: bool(link) and link not in row)
            message = f"refers to nothing in this split: {links[at]!r}"
            raise DataError(message, file=path, token=tokens[at], field=name) from None

    own = np.arange(len(tokens))
    first, last = neighbours(prevs, "prev"), neighbours(nexts, "next")
    with np.errstate(divide="ignore", invalid="ignore"):
        seconds = time_s[last] - time_s[first]
        velocity = (translation[last, :2] - translation[first, :2]) / seconds[:, None]
    centred = (first != own) & (last != own)
    unknown = (first == own) & (last == own)
    unknown |= seconds > np.where(centred, 2 * MAX_TIME_DIFF_S, MAX_TIME_DIFF_S)
    velocity[unknown | (seconds == 0)] = np.nan
    return velocity


def _odd(kind: type, value: object) -> bool:
    """Whether a value of a record is not of its kind, or text with NUL."""
    return type(value) is not kind or "\0" in str(value)
