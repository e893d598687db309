"""nuScenes radar: a small reader of its `.pcd` files (18 fields, binary) and the merging of sweeps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bevkd.data.points import moved
from bevkd.data.valid import FARTHEST_M, SPEED_M_S, whole, within
from bevkd.errors import DataError
from bevkd.io import read_bytes

FIELDS = (
    "x", "y", "z", "dyn_prop", "id", "rcs", "vx", "vy", "vx_comp", "vy_comp", "is_quality_valid", "ambig_state",
    "x_rms", "y_rms", "invalid_state", "pdh0", "vx_rms", "vy_rms",
)  # fmt: skip
# The states of a point that become features, with the numbers that each may have: 0 up to, but not including this one.
STATES = (("dyn_prop", 8), ("ambig_state", 5), ("invalid_state", 18), ("pdh0", 8))
_ORDINAL = "pdh0"  # grades the probability of a false alarm; the others are names
FEATURES = 7 + sum(count - (name == _ORDINAL) for name, count in STATES)
_KINDS = {"F": "f", "I": "i", "U": "u"}
_MOST_FIELDS = 256


@dataclass(frozen=True)
class RadarFilter:
    """States of the radar points to keep; None keeps all. The defaults are the nuScenes devkit's."""

    invalid_state: tuple[int, ...] | None = (0,)
    dyn_prop: tuple[int, ...] | None = tuple(range(7))
    ambig_state: tuple[int, ...] | None = (3,)


# Whatever the sensor says; codes that are none of its states are left out, as by the devkit with its filters off.
EVERY_STATE = RadarFilter(*(tuple(range(dict(STATES)[f])) for f in ("invalid_state", "dyn_prop", "ambig_state")))


def read_radar(path: str | Path, token: str | None = None, keep: RadarFilter | None = None) -> NDArray[np.float32]:
    """Points (R, 6) of a radar file: x, y, z, rcs, vx_comp, vy_comp in the sensor frame (m, dBsm, m/s).

    Args:
        path: the `.pcd` file.
        token: named in errors.
        keep: which points to keep; the default drops invalid and ambiguous ones.

    Raises:
        DataError: missing or truncated file, a header without the expected fields, data that are not binary, or a point
            farther away or faster than any that a radar sees.
    """
    return _read(path, token, keep or RadarFilter())[0]


def read_radar_states(
    path: str | Path, token: str | None = None, keep: RadarFilter = EVERY_STATE
) -> NDArray[np.float32]:
    """Points (R, 10) of a radar file: the columns of `read_radar`, then the codes of `STATES`.

    Points with a code that is none of these are left out.

    Args:
        path: the `.pcd` file.
        token: named in errors.
        keep: which points to keep; by default all.

    Raises:
        DataError: as `read_radar`.
    """
    points, cloud = _read(path, token, keep)
    known = np.logical_and.reduce([np.isin(cloud[name], range(count)) for name, count in STATES])
    codes = [cloud[name][known].astype(np.float32) for name, _ in STATES]
    return np.concatenate([points[known], np.stack(codes, axis=-1)], axis=1)


def _read(path: str | Path, token: str | None, keep: RadarFilter) -> tuple[NDArray[np.float32], NDArray[np.void]]:
    """The points (R, 6) that are kept, and their records (R,)."""
    cloud = read_pcd(path, token)
    missing = [name for name in FIELDS if name not in (cloud.dtype.names or ()) or cloud.dtype[name].shape]
    if missing:
        raise DataError(f"radar file lacks the field {missing[0]!r}", file=path, token=token, field="FIELDS")
    columns = ("x", "y", "z", "rcs", "vx_comp", "vy_comp")
    points = np.stack([cloud[name].astype(np.float32) for name in columns], axis=-1).reshape(-1, len(columns))
    good = np.isfinite(points).all(axis=1)  # nuScenes writes one NaN point where the radar saw nothing
    for name in ("invalid_state", "dyn_prop", "ambig_state"):
        states = getattr(keep, name)
        if states is not None:
            good &= np.isin(cloud[name], states)
    points, cloud = points[good], cloud[good]
    for columns_of, most, what in ((slice(0, 3), FARTHEST_M, "place"), (slice(4, 6), SPEED_M_S, "speed")):
        if not within(points[:, columns_of], most).all():
            message = f"a {what} beyond {most:g}: another unit, or another layout?"
            raise DataError(message, file=path, token=token, field="points")
    return points, cloud


def state_features(points: NDArray[np.float32]) -> NDArray[np.float32]:
    """The features (R, 45) of a radar point, from its numbers and the codes of its states (R, 11).

    x, y, z, rcs, vx, vy, dt; one-hot dyn_prop (8), ambig_state (5) and invalid_state (18); pdh0 (7), of which bit i
    says that it is above i (CRKD's public code; spec, 2.3).
    """
    parts = [points[:, :7]]
    for column, (name, count) in enumerate(STATES, start=7):
        code = points[:, column, None]
        steps = np.arange(count - (name == _ORDINAL), dtype=np.float32)
        parts.append((code > steps if name == _ORDINAL else code == steps).astype(np.float32))
    return np.concatenate(parts, axis=1)


def read_pcd(path: str | Path, token: str | None = None) -> NDArray[np.void]:
    """A binary `.pcd` file as a structured array.

    Raises:
        DataError: missing or truncated file, or a header that is not that of a binary point cloud.
    """
    content = read_bytes(path, "radar file", token=token, field="filename")
    header, at = _header(content)
    try:
        dtype = _dtype(header)
        n = whole(*header["POINTS"])
        announced = whole(*header.get("WIDTH", header["POINTS"])) * whole(*header.get("HEIGHT", ["1"]))
    except (KeyError, ValueError, TypeError) as error:
        raise DataError(f"not a point cloud header: {error}", file=path, token=token, field="header") from None
    if n != announced:
        message = f"not a point cloud header: {n} points, but width times height are {announced}"
        raise DataError(message, file=path, token=token, field="POINTS")
    if header.get("DATA") != ["binary"]:
        raise DataError("only binary point clouds are read", file=path, token=token, field="DATA")
    if len(content) - at < n * dtype.itemsize:
        raise DataError(f"truncated radar file: {n} points announced", file=path, token=token, field="POINTS")
    return np.frombuffer(content, dtype=dtype, count=n, offset=at)


def _dtype(header: dict[str, list[str]]) -> np.dtype[np.void]:
    """The fields of a point; ValueError, KeyError or TypeError where they are none."""
    names, counts = header["FIELDS"], header.get("COUNT", ["1"] * len(header["FIELDS"]))
    sizes = [whole(size) for size in header["SIZE"]]
    if max(len(names), len(counts), len(sizes)) > _MOST_FIELDS or not set(sizes) <= {1, 2, 4, 8}:
        raise ValueError(f"a point has at most {_MOST_FIELDS} fields of 1, 2, 4 or 8 bytes")
    kinds = [f"<{_KINDS[kind]}{size}" for kind, size in zip(header["TYPE"], sizes, strict=True)]
    fields: list[Any] = []
    for name, kind, count in zip(names, kinds, map(whole, counts), strict=True):
        if not 1 <= count <= _MOST_FIELDS:
            raise ValueError(f"field {name!r} is there {count} times")
        fields.append((name, kind) if count == 1 else (name, kind, count))
    return np.dtype(fields)


def _header(content: bytes) -> tuple[dict[str, list[str]], int]:
    header: dict[str, list[str]] = {}
    at = 0
    while "DATA" not in header:
        end = content.find(b"\n", at)
        if end < 0 or end - at > 4096:
            break
        words = content[at:end].decode("ascii", "replace").split()
        at = end + 1
        if words and not words[0].startswith("#"):
            header[words[0]] = words[1:]
    return header, at


def merge_radar(
    sweeps: Sequence[tuple[NDArray[np.float32], NDArray[np.float64], float]], advance: bool = False, states: int = 0
) -> NDArray[np.float32]:
    """Merge radar sweeps of all radars.

    Args:
        sweeps: points (R, 6 + S) of `read_radar` or `read_radar_states`, `ego_from_sensor` (4, 4) into the ego frame of
            the keyframe, age dt (s).
        advance: move points to where they are at the keyframe if they go on as they were seen to: by dt times (vx, vy).
        states: S, columns of states.

    Returns:
        (R, 7 + S): x, y, z (ego frame of the keyframe), rcs, vx, vy (compensated, turned into that frame), dt, states.
    """
    parts = [np.zeros((0, 7 + states), dtype=np.float32)]
    for points, ego_from_sensor, age in sweeps:
        part = np.empty((len(points), 7 + states), dtype=np.float32)
        rotation = ego_from_sensor[:3, :3].astype(np.float32)
        part[:, :3] = moved(points, ego_from_sensor)
        part[:, 3] = points[:, 3]
        part[:, 4:6] = points[:, 4:6] @ rotation[:2, :2].T
        part[:, 6] = age
        part[:, 7:] = points[:, 6:]
        if advance:
            part[:, :2] += part[:, 4:6] * np.float32(age)
        parts.append(part)
    return np.concatenate(parts)
