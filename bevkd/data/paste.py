"""Ground-truth pasting: crops of labelled objects that are copied into other frames of LiDAR-only detectors."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from bevkd.classes import LABEL_INDEX, LABELS
from bevkd.data import valid
from bevkd.data.index import CONVENTION, matrices
from bevkd.data.parquet import read_parquet, require_no_null
from bevkd.errors import ConfigError, DataError, nearest
from bevkd.geometry import box_corners_bev, points_in_boxes
from bevkd.io import atomic_folder, read_bytes, read_json, write_json
from bevkd.regular import TABLE, require_regular

log = logging.getLogger(__name__)

_OBJECTS, _POINTS, _SUMS = "objects.parquet", "points.bin", "sums.json"
_TRIES = 2  # candidates drawn per object wanted, because some collide
_SCHEMA = pa.schema(
    [
        ("token", pa.string()),  # frame
        ("label", pa.int8()),
        ("box", pa.list_(pa.float64(), 9)),
        ("start", pa.int64()),  # first row in points.bin
        ("count", pa.int32()),
    ],
    metadata={"convention": CONVENTION, "points": "float32 x, y, z, intensity, dt, in the ego frame of their keyframe"},
)


@dataclass(frozen=True)
class LabelledCloud:
    """What the database is made of: one labelled frame before augmentation.

    Attributes:
        token: sample token.
        points: (P, 5).
        boxes: (M, 9).
        labels: (M,).
    """

    token: str
    points: NDArray[np.float32]
    boxes: NDArray[np.float64]
    labels: NDArray[np.int64]


def build_paste_database(frames: Iterable[LabelledCloud], folder: str | Path, min_points: int = 5) -> Path:
    """Write the objects of frames with at least `min_points` points; one frame is in memory at a time.

    One that is there is replaced.

    Raises:
        ConfigError: another process is writing it.
        DataError: the frames hold no such object.
    """
    folder = Path(folder)
    rows: list[dict[str, object]] = []
    total, points_sum = 0, 0
    with atomic_folder(folder) as temporary:
        with open(temporary / _POINTS, "wb") as stream:
            for frame in frames:
                masks = points_in_boxes(frame.points, frame.boxes)
                for box, label, mask in zip(frame.boxes, frame.labels, masks, strict=True):
                    count = int(mask.sum())
                    if count < min_points:
                        continue
                    content = frame.points[mask].astype("<f4").tobytes()
                    points_sum = zlib.crc32(content, points_sum)
                    stream.write(content)
                    rows.append({"token": frame.token, "label": label, "box": box, "start": total, "count": count})
                    total += count
        if not rows:
            raise DataError("no labelled object has enough points for a paste database", file=folder)
        pq.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA), temporary / _OBJECTS)
        sums = {_POINTS: points_sum, _OBJECTS: zlib.crc32((temporary / _OBJECTS).read_bytes())}
        write_json(temporary / _SUMS, sums, indent=None)
    log.info("%s: %d objects, %d points", folder, len(rows), total)
    return folder


def is_whole(folder: Path) -> bool:
    """Whether a database is there and is what was written, as far as that was noted; it is read from end to end."""
    if not folder.is_dir():
        return False
    try:
        if not (folder / _SUMS).exists():
            log.warning("%s is from before there were sums: damage would not be noticed", folder)
            return True
        told = read_json(folder / _SUMS)
        found = {name: zlib.crc32(read_bytes(folder / name, most=TABLE)) for name in (_POINTS, _OBJECTS)}
    except DataError as error:
        log.warning("%s is made anew: %s", folder, error)
        return False
    if told != found:
        log.warning("%s is made anew: damaged, its sums are others", folder)
    return bool(told == found)


class GTPaste:
    """Draws objects from a database until a frame has the wanted number of every class.

    Args:
        folder: written by `build_paste_database`.
        wanted: class name -> boxes to reach per frame.

    Attributes:
        folder: the database; its name says of what it was made.

    Raises:
        ConfigError: unknown class.
        DataError: no database, or its two files do not fit.
    """

    def __init__(self, folder: str | Path, wanted: Mapping[str, int]) -> None:
        self.folder = folder = Path(folder)
        for name in wanted:
            if name not in LABEL_INDEX:
                raise ConfigError(f"gt_paste: unknown class {name!r}{nearest(name, LABEL_INDEX)}")
        try:
            table = read_parquet(folder / _OBJECTS, _SCHEMA)
            require_regular(folder / _POINTS)
            self._points = np.memmap(folder / _POINTS, dtype="<f4", mode="r").reshape(-1, 5)
        except (DataError, OSError, ValueError) as error:
            raise DataError(f"paste database cannot be read: {error}", file=folder) from error
        require_no_null(table, folder / _OBJECTS, _SCHEMA.names)
        self._boxes = matrices(table["box"], 9)
        self._labels = table["label"].to_numpy().astype(np.int64)
        self._start = table["start"].to_numpy()
        self._count = table["count"].to_numpy()
        if int(self._count.sum()) != len(self._points):
            raise DataError("paste database is truncated", file=folder / _POINTS)
        good = valid.within(self._boxes[:, :7], valid.FARTHEST_M) & valid.good_sizes(self._boxes[:, 3:6])
        good &= valid.within(self._labels, len(LABELS) - 1, -1) & ~np.isinf(self._boxes[:, 7:]).any(axis=1)
        if not (good & (self._start == np.cumsum(self._count) - self._count) & (self._count > 0)).all():
            raise DataError("paste database holds an object that is none", file=folder / _OBJECTS)
        if not max(self._points.max(initial=0), -self._points.min(initial=0)) <= valid.FARTHEST_M:
            raise DataError("paste database holds points that are none", file=folder / _POINTS)
        self._wanted = {LABEL_INDEX[name]: count for name, count in wanted.items()}
        self._of_class = {label: np.flatnonzero(self._labels == label) for label in self._wanted}

    def __len__(self) -> int:
        return len(self._labels)

    def paste(
        self,
        points: NDArray[np.float32],
        boxes: NDArray[np.float64],
        labels: NDArray[np.int64],
        rng: np.random.Generator,
    ) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.int64]]:
        """Points, boxes and labels with objects added where no box overlaps them in BEV.

        Points of the frame inside a pasted box are removed, so that no object stands in another's surface.
        """
        taken: list[int] = []
        corners = box_corners_bev(boxes) if len(boxes) else np.zeros((0, 4, 2))
        for label, count in self._wanted.items():
            missing = count - int((labels == label).sum())
            pool = self._of_class[label]
            if missing <= 0 or not len(pool):
                continue
            added = 0
            for candidate in rng.choice(pool, min(len(pool), _TRIES * missing), replace=False):
                own = box_corners_bev(self._boxes[candidate : candidate + 1])
                if len(corners) and rectangles_overlap(own, corners).any():
                    continue
                corners = np.concatenate([corners, own])
                taken.append(int(candidate))
                added += 1
                if added == missing:
                    break
        if not taken:
            return points, boxes, labels
        new_boxes = self._boxes[taken]
        points = points[~points_in_boxes(points, new_boxes).any(axis=0)]
        crops = [np.asarray(self._points[self._start[i] : self._start[i] + self._count[i]]) for i in taken]
        return (
            np.concatenate([points, *crops]),
            np.concatenate([boxes, new_boxes]),
            np.concatenate([labels, self._labels[taken]]),
        )


def rectangles_overlap(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which rectangles (N, 4, 2) overlap which others (M, 4, 2), by separating axes; touching counts as apart."""
    apart = np.zeros((len(a), len(b)), dtype=bool)
    for source in (a, b):
        for k in (0, 1):  # the two edge directions of a rectangle are the axes of both of its normals
            axis = source[:, k + 1] - source[:, k]  # (S, 2)
            shape = (len(a), 1) if source is a else (1, len(b))
            axis = axis.reshape(*shape, 2)
            along_a = np.einsum("npd,nmd->nmp", a, np.broadcast_to(axis, (len(a), len(b), 2)))
            along_b = np.einsum("mpd,nmd->nmp", b, np.broadcast_to(axis, (len(a), len(b), 2)))
            apart |= (along_a.max(-1) <= along_b.min(-1)) | (along_b.max(-1) <= along_a.min(-1))
    return ~apart
