"""Detections as Waymo's leaderboard takes them: a serialized message `Objects` of the benchmark's `metrics.proto`.

    Objects: 1 repeated Object
    Object:  1 Label, 2 score (float), 4 context_name (string), 5 frame_timestamp_micros (int64)
    Label:   1 Box, 3 type (enum)
    Box:     1 center_x, 2 center_y, 3 center_z, 4 width, 5 length, 6 height, 7 heading (double)

The benchmark's `create_submission` makes an archive for upload of such files. The messages are few and flat, so they
are written here, without the protocol's own library and generated code.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bevkd.geometry import wrap_angle
from bevkd.io import atomic_path

_VARINT, _DOUBLE, _BYTES, _FLOAT = 0, 1, 2, 5  # how a field is written
_BOX = struct.Struct("<" + "Bd" * 7)
_BOX_KEYS = [number << 3 | _DOUBLE for number in range(1, 8)]


def write_objects(path: Path, frames: Iterable[tuple[str, int, NDArray[Any], NDArray[Any], NDArray[Any]]]) -> None:
    """Write the detections of some frames, whole or not at all.

    Args:
        path: the file, usually `.bin`.
        frames: of each the name of its segment, its time stamp (microseconds), boxes (N, 7) in the vehicle frame,
            types (N,) as in `bevkd.eval.waymo.TYPES`, and scores (N,).
    """
    with atomic_path(path) as temporary, open(temporary, "wb") as stream:
        for frame in frames:
            stream.writelines(_objects(*frame))


def _objects(
    context: str, time_us: int, boxes: NDArray[Any], types: NDArray[Any], scores: NDArray[Any]
) -> Iterator[bytes]:
    where = _bytes(4, context.encode()) + _key(5, _VARINT) + _varint(time_us)
    values = boxes[:, [0, 1, 2, 4, 3, 5, 6]].astype(np.float64)
    values[:, 6] = wrap_angle(values[:, 6])
    for row, kind, score in zip(values.tolist(), types.tolist(), scores.tolist(), strict=True):
        pairs = [part for pair in zip(_BOX_KEYS, row, strict=True) for part in pair]
        label = _bytes(1, _BOX.pack(*pairs)) + _key(3, _VARINT) + _varint(kind)
        yield _bytes(1, _bytes(1, label) + _key(2, _FLOAT) + struct.pack("<f", score) + where)


def _key(number: int, kind: int) -> bytes:
    return _varint(number << 3 | kind)


def _bytes(number: int, content: bytes) -> bytes:
    return _key(number, _BYTES) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    """A number that is not negative, seven bits at a time, the lowest first."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
