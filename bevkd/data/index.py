"""The Parquet index of a data set: what a reader writes and `FrameDataset` opens.

A folder with four tables; no sensor data is copied, file names are relative to the root of the data set.

- `frames`: one row per keyframe: token, scene, description, weather, lighting, split, timestamp, `global_from_ego`,
  rows of `sensors` for the key records, the previous LiDAR sweeps and the previous radar sweeps (newest first).
- `unlabelled` (only where cameras have records between keyframes and there are no labelled lists): the same columns,
  one row per LiDAR sweep between keyframes.
- `sensors`: one row per sensor file: channel, file name, timestamp, `ego_from_sensor`, `global_from_ego` (the ego pose
  at the record's own time stamp), intrinsics.
- `boxes`: one row per annotation, in the ego frame of its keyframe.
- `past` (nuScenes): earlier images, see `bevkd.data.past`; read only where they are wanted.

Matrices are stored row by row as fixed-size lists. Every file is stamped with tool version and coordinate convention.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

import bevkd
from bevkd.classes import LABEL_INDEX
from bevkd.data.index_checks import check_boxes, check_facts, check_frames, check_links, check_sensors, read_facts
from bevkd.data.parquet import open_parquet, read_parquet, require_no_null
from bevkd.data.past import PastTable
from bevkd.errors import ConfigError, DataError, nearest
from bevkd.splits import split_names

FORMAT = 2
# How many earlier sweeps a frame lists, of the LiDAR and of each radar.
LIDAR_SWEEPS, RADAR_SWEEPS = 10, 6
PAST_SETS = 9  # earlier sets of images that a frame lists, about `PAST_SECONDS` apart where cameras run at 12 Hz
PAST_SECONDS = 0.25
STAMP_KEY = b"bevkd"
UNCOUNTED = 1 << 40  # points inside a box of which nobody counted them: it counts as seen
CONVENTION = (
    "ego frame of the keyframe (nuScenes: ego pose at the LIDAR_TOP timestamp; KITTI: velodyne; Waymo: vehicle), "
    "x forward, y left, z up, metres; "
    "box = x, y, z (centre), l, w, h, yaw (counter-clockwise from +x, rad), vx, vy (m/s, NaN where unknown); "
    "target_from_source 4x4 row-major; quaternions w, x, y, z; timestamps in microseconds"
)


def _floats(n: int) -> pa.DataType:
    return pa.list_(pa.float64(), n)


_WORD = pa.dictionary(pa.int32(), pa.string())
FRAMES = pa.schema(
    [
        ("token", pa.string()),
        ("scene", pa.int32()),
        ("scene_name", _WORD),
        ("description", _WORD),
        ("location", _WORD),
        ("weather", _WORD),
        ("lighting", _WORD),
        ("split", _WORD),
        ("timestamp", pa.int64()),
        ("global_from_ego", _floats(16)),
        (
            "labelled",
            pa.list_(pa.int32()),
        ),  # labelled subsets that hold the frame; null: the data set has no such lists
        ("key", pa.list_(pa.int32())),
        ("lidar_sweeps", pa.list_(pa.int32())),
        ("radar_sweeps", pa.list_(pa.int32())),
    ]
)
SENSORS = pa.schema(
    [
        ("row", pa.int32()),
        ("token", pa.string()),
        ("scene", pa.int32()),
        ("channel", _WORD),
        ("modality", _WORD),
        ("is_key", pa.bool_()),
        ("timestamp", pa.int64()),
        ("filename", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("intrinsics", _floats(9)),
        ("ego_from_sensor", _floats(16)),
        ("global_from_ego", _floats(16)),
    ]
)
BOXES = pa.schema(
    [
        ("token", pa.string()),
        ("frame", pa.int32()),  # row of `frames`
        ("scene", pa.int32()),
        ("instance", pa.string()),
        ("category", _WORD),
        ("label", pa.int8()),  # class index, -1: not a detection class
        ("attribute", _WORD),
        ("visibility", pa.int8()),
        # KITTI: 0 easy, 1 moderate, 2 hard, 3 beyond. Waymo: level 1 or 2. nuScenes has none: null.
        ("difficulty", pa.int8()),
        ("box", _floats(9)),
        ("rotation", _floats(4)),  # the whole rotation; `box` keeps its heading only
        ("num_lidar_pts", pa.int32()),  # null: nobody counted them
        ("num_radar_pts", pa.int32()),
    ]
)


def stamp(schema: pa.Schema, facts: dict[str, Any]) -> pa.Schema:
    """The schema with tool version, convention and `facts` in its metadata."""
    content = {"format": FORMAT, "tool": f"bevkd {bevkd.__version__}", "convention": CONVENTION, **facts}
    return schema.with_metadata({STAMP_KEY: json.dumps(content, sort_keys=True).encode()})


def read_stamp(folder: str | Path) -> dict[str, Any]:
    """The stamp of an index.

    Raises:
        DataError: there is no index, or one of another format.
    """
    path = Path(folder) / "frames.parquet"
    metadata = open_parquet(path, "no index here; write it with `bevkd convert`: file").schema_arrow.metadata or {}
    if STAMP_KEY not in metadata:
        raise DataError("not an index of bevkd: the stamp is missing", file=path)
    content = read_facts(metadata[STAMP_KEY], path)
    if content.get("format") != FORMAT:
        raise DataError(f"index format {content.get('format')} is not {FORMAT}; convert again", file=path)
    check_facts(content, path)
    return content


def matrices(column: pa.ChunkedArray, *shape: int) -> NDArray[np.float64]:
    """A fixed-size list column as an array (N, *shape)."""
    flat = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return np.asarray(flat, dtype=np.float64).reshape(-1, *shape)


@dataclass(frozen=True)
class SensorTable:
    """Records of `sensors` that a data set needs.

    Attributes:
        position: row of the index -> position in the other fields.
        channel, filename: names, lists of length S.
        timestamp: (S,) microseconds.
        size: (S, 2) width and height of the image, zeros for sensors that are no camera.
        intrinsics: (S, 3, 3), zeros for sensors that are no camera.
        ego_from_sensor, global_from_ego: (S, 4, 4).
    """

    position: dict[int, int]
    channel: list[str]
    modality: list[str]
    filename: list[str]
    token: list[str]
    timestamp: NDArray[np.int64]
    size: NDArray[np.int64]
    intrinsics: NDArray[np.float64]
    ego_from_sensor: NDArray[np.float64]
    global_from_ego: NDArray[np.float64]


@dataclass(frozen=True)
class BoxTable:
    """Annotations sorted by frame: those of frame i are `start[i]:start[i + 1]`.

    Attributes:
        boxes: (M, 9) float64 in the ego frame of the keyframe, NaN velocity where unknown.
        labels: (M,) class index or -1.
        points: (M,) LiDAR + radar points inside; `UNCOUNTED` and more where nobody counted them.
        lidar_points: (M,) LiDAR points inside.
        difficulty: (M,) see `BOXES`; -1 where a data set has none.
        tokens, instances: (M,) annotation and instance tokens.
        category: (M,) as the data set names them.
    """

    start: NDArray[np.int64]
    boxes: NDArray[np.float64]
    labels: NDArray[np.int64]
    points: NDArray[np.int64]
    lidar_points: NDArray[np.int64]
    difficulty: NDArray[np.int64]
    tokens: list[str]
    instances: list[str]
    category: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class FrameIndex:
    """The frames of some splits with their sensors and boxes.

    Attributes:
        columns: the string columns of `frames` (token, scene_name, weather, lighting, split, ...), lists of length n.
        keyframe: (n,) false for frames between keyframes.
        subsets: for each frame the labelled subsets that hold it; None where the data set has no labelled lists.
        timestamp: (n,) microseconds.
        global_from_ego: (n, 4, 4).
        key, lidar_sweeps, radar_sweeps: for each frame rows of the index's `sensors`.
        past: earlier images of each frame; None when not asked for.
    """

    folder: Path
    facts: dict[str, Any]
    columns: dict[str, list[str]]
    keyframe: NDArray[np.bool_]
    subsets: list[list[int] | None]
    timestamp: NDArray[np.int64]
    global_from_ego: NDArray[np.float64]
    key: list[list[int]]
    lidar_sweeps: list[list[int]]
    radar_sweeps: list[list[int]]
    sensors: SensorTable
    boxes: BoxTable
    past: PastTable | None = None

    def __len__(self) -> int:
        return len(self.keyframe)

    @classmethod
    def open(
        cls,
        folder: str | Path,
        split: str,
        *,
        sensors: Sequence[str] = ("lidar", "camera", "radar"),
        between: bool = False,
        camera_sweeps: bool = False,
        camera_past: bool = False,
        categories: Mapping[str, str | None] | None = None,
    ) -> FrameIndex:
        """Read the frames of a split, or of several joined by `+`.

        Args:
            folder: the index.
            split: for example `train`, or `train+tune`.
            sensors: modalities whose records are needed.
            between: also the frames between keyframes, where the index has them.
            camera_sweeps: also camera records between keyframes, which are many.
            camera_past: also which earlier images belong to each frame, and their records.
            categories: own category names and the classes they count as, beside those of the conversion.

        Raises:
            ConfigError: the data set has no such split, or the expression is none (`bevkd.splits`).
            DataError: no index, or no frame in the split; or no list of earlier images, where they are wanted.
        """
        folder = Path(folder)
        facts = read_stamp(folder)
        wanted, lists = list(split_names(split)), facts.get("lists", {})
        known = sorted({*facts["splits"], *lists})
        for name in wanted:
            if name not in known:
                raise ConfigError(
                    f"index {folder} has no split {name!r}{nearest(name, known)}; it has: {', '.join(known)}"
                )
        in_split = pc.field("split").cast(pa.string()).isin(wanted)
        if listed := [scene for name in wanted for scene in lists.get(name, [])]:
            in_split = in_split | pc.field("scene_name").cast(pa.string()).isin(listed)
        path = folder / "frames.parquet"
        frames = _read(path, FRAMES)
        if len(frames) != facts["frames"]:
            raise DataError(f"{len(frames)} frames, but the stamp says {facts['frames']}", file=path)
        frames = frames.add_column(0, "_row", pa.array(np.arange(len(frames)), pa.int64()))
        frames = frames.filter(in_split)
        n_key = len(frames)
        extra = folder / "unlabelled.parquet"
        if between and extra.exists():
            table = _read(extra, FRAMES)
            table = table.add_column(0, "_row", pa.array(np.full(len(table), -1), pa.int64()))
            frames = pa.concat_tables([frames, table.filter(in_split).cast(frames.schema)])
        if len(frames) == 0:
            raise DataError("no frame in the split", file=path, field=split)
        require_no_null(frames, path, set(FRAMES.names) - {"labelled"})
        # A list: when an Arrow thread drops a filter over NumPy memory while Python exits, the process aborts.
        scenes = pa.array(np.unique(frames["scene"].to_numpy()).tolist(), pa.int32())
        lists = {name: frames[name].to_pylist() for name in ("key", "lidar_sweeps", "radar_sweeps")}
        words = ("token", "scene_name", "description", "location", "weather", "lighting", "split")
        columns = {name: frames[name].cast(pa.string()).to_pylist() for name in words}
        past = PastTable.read(folder, columns["token"]) if camera_past else None
        every = camera_sweeps or len(frames) > n_key
        records = _sensors(folder, scenes, sensors, every, None if past is None else np.unique(past.rows))
        poses = matrices(frames["global_from_ego"], 4, 4)
        check_frames(path, columns["token"], frames["timestamp"].to_numpy(), poses)
        check_links(path, columns["token"], lists, records, sensors)
        if past is not None:
            past.check(columns["token"], lists["key"], records)
        return cls(
            folder=folder,
            facts=facts,
            columns=columns,
            keyframe=np.arange(len(frames)) < n_key,
            subsets=frames["labelled"].to_pylist(),
            timestamp=frames["timestamp"].to_numpy(),
            global_from_ego=poses,
            sensors=records,
            boxes=_boxes(
                folder, scenes, frames["_row"].to_numpy(), facts.get("categories", {}) | dict(categories or {})
            ),
            past=past,
            **lists,
        )


def _read(path: Path, schema: pa.Schema, **options: Any) -> pa.Table:
    return read_parquet(path, schema, memory_map=True, **options)


def _sensors(
    folder: Path,
    scenes: pa.Array,
    modalities: Sequence[str],
    camera_sweeps: bool,
    more: NDArray[np.int32] | None,
) -> SensorTable:
    """Records of some scenes; camera records between keyframes only where all are wanted, or that are rows `more`."""
    keep = pc.field("scene").isin(scenes) & pc.field("modality").cast(pa.string()).isin(list(modalities))
    if not camera_sweeps:  # camera records between keyframes belong to frames between keyframes, or to a past
        usual = pc.field("is_key") | (pc.field("modality").cast(pa.string()) != "camera")
        keep &= usual if more is None else usual | pc.field("row").isin(pa.array(more.tolist(), pa.int32()))
    path = folder / "sensors.parquet"
    table = _read(path, SENSORS, filters=keep)
    require_no_null(table, path, SENSORS.names)
    out = SensorTable(
        position={int(row): i for i, row in enumerate(table["row"].to_numpy())},
        channel=table["channel"].cast(pa.string()).to_pylist(),
        modality=table["modality"].cast(pa.string()).to_pylist(),
        filename=table["filename"].to_pylist(),
        token=table["token"].to_pylist(),
        timestamp=table["timestamp"].to_numpy(),
        size=np.stack([table["width"].to_numpy(), table["height"].to_numpy()], axis=-1).astype(np.int64),
        intrinsics=matrices(table["intrinsics"], 3, 3),
        ego_from_sensor=matrices(table["ego_from_sensor"], 4, 4),
        global_from_ego=matrices(table["global_from_ego"], 4, 4),
    )
    check_sensors(path, out)
    return out


def _boxes(folder: Path, scenes: pa.Array, rows: NDArray[np.int64], own: Mapping[str, str | None]) -> BoxTable:
    """Boxes of the frames that are the given rows of the index (-1: a frame without annotations)."""
    path = folder / "boxes.parquet"
    table = _read(path, BOXES, filters=pc.field("scene").isin(scenes))
    require_no_null(table, path, set(BOXES.names) - {"difficulty", "num_lidar_pts"})
    frame = table["frame"].to_numpy()
    order = np.argsort(frame, kind="stable")
    low, high = np.searchsorted(frame[order], rows, "left"), np.searchsorted(frame[order], rows, "right")
    take = np.concatenate([order[a:b] for a, b in zip(low, high, strict=True)]) if len(rows) else order[:0]
    table = table.take(take)
    lidar = table["num_lidar_pts"].cast(pa.int64()).fill_null(UNCOUNTED).to_numpy().astype(np.int64)
    coded = table["category"].combine_chunks()
    names = coded.dictionary.to_pylist()
    category = [names[i] for i in coded.indices.to_pylist()]  # the few words are shared
    out = BoxTable(
        start=np.concatenate([[0], np.cumsum(high - low)]),
        boxes=matrices(table["box"], 9),
        labels=labels_of(category, table["label"].to_numpy().astype(np.int64), own),
        points=lidar + table["num_radar_pts"].to_numpy(),
        lidar_points=lidar,
        difficulty=table["difficulty"].fill_null(-1).to_numpy().astype(np.int64),
        tokens=table["token"].to_pylist(),
        instances=table["instance"].to_pylist(),
        category=category,
    )
    check_boxes(path, out)
    return out


def labels_of(category: Sequence[str], labels: NDArray[np.int64], own: Mapping[str, str | None]) -> NDArray[np.int64]:
    """Labels (M,) of boxes whose categories may have own names, whatever their case.

    Args:
        category: (M,) as the data set names them.
        labels: (M,) by the format's own rule.
        own: category -> class, or none.
    """
    if not own:
        return labels
    known = {name.casefold(): -1 if label is None else LABEL_INDEX[label] for name, label in own.items()}
    return np.array(
        [known.get(name.casefold(), label) for name, label in zip(category, labels.tolist(), strict=True)],
        dtype=np.int64,
    )
