"""What the numbers and words of a data set can be: one set of rules that all readers share.

Bounds are wide, for they tell damage, other units and other layouts from data, not good data from better. All functions
take arrays and say which entries are good, so that a reader can name the record at fault.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bevkd.geometry.rle import MOST_SIDE

Mask = NDArray[np.bool_]

GLOBAL_M = 2e7  # from the origin of a map; coordinates of UTM and those from the centre of the Earth are less
FARTHEST_M = 1e4  # no sensor sees as far
MOUNT_M = 100.0  # from a vehicle to its sensor
SIZE_M = 1e3  # edge of a box
SPEED_M_S = 1e3
ANGLE = 1e3  # rad; headings need not be wrapped
FOCAL_PX = (1.0, 1e6)
PLACE_PX = 1e6  # coordinates in an image, which may lie outside of it
SIDE_PX = MOST_SIDE  # what JPEG can hold
PIXELS = 1 << 26  # of an image: forty times those of the data sets that are read
TIME_US = 1 << 53  # 285 years, and exact as a floating-point number
POINTS = 2**31 - 1  # in a box
ROUNDED = 1e-3  # how far the axes of a published rotation may be from orthonormal
_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_LONGEST_NUMBER = 400  # characters


def within(values: ArrayLike, most: float, least: float | None = None) -> Mask:
    """Which rows of (N, ...) hold finite numbers from `least` (default `-most`) to `most`."""
    array = np.asarray(values)
    good = (array >= (-most if least is None else least)) & (array <= most)  # not a number fails both
    return np.asarray(good.all(axis=tuple(range(1, good.ndim))))


def good_sizes(sizes: ArrayLike) -> Mask:
    """Which sizes (N, 3) in metres are positive and no longer than `SIZE_M`."""
    return within(sizes, SIZE_M) & (np.asarray(sizes) > 0).all(axis=-1)


def good_rotations(matrices: ArrayLike, rounded: float = ROUNDED) -> Mask:
    """Which matrices (N, 3, 3) are rotations: orthonormal to `rounded`, of determinant 1 and not -1."""
    turn = np.asarray(matrices, dtype=np.float64)
    close = within(turn, 2.0)  # products of huge numbers would overflow
    turn = np.where(close[:, None, None], turn, 0.0)
    off = np.abs(turn @ turn.transpose(0, 2, 1) - np.eye(3)).max(axis=(1, 2), initial=0.0)
    return np.asarray(close & (off <= rounded) & (np.linalg.det(turn) > 0))


def good_poses(matrices: ArrayLike, most: float, rounded: float = ROUNDED) -> Mask:
    """Which matrices (N, 4, 4) are a rotation and a translation of at most `most` metres along each axis."""
    pose = np.asarray(matrices, dtype=np.float64)
    last = np.abs(pose[:, 3] - [0, 0, 0, 1]) <= 1e-6
    return good_rotations(pose[:, :3, :3], rounded) & within(pose[:, :3, 3], most) & last.all(axis=1)


def good_quaternions(quaternions: ArrayLike, unit: float | None = 0.01) -> Mask:
    """Which quaternions (N, 4) are finite and have length 1 to within `unit`; without it, any length but zero."""
    q = np.asarray(quaternions, dtype=np.float64)
    close = within(q, GLOBAL_M)
    norm = np.linalg.norm(np.where(close[:, None], q, 0.0), axis=-1)
    return np.asarray(close & ((norm > 1e-6) if unit is None else (np.abs(norm - 1) < unit)))


def good_intrinsics(matrices: ArrayLike) -> Mask:
    """Which matrices (N, 3, 3) are those of pinhole cameras: positive focal lengths, a principal point (pixels)."""
    k = np.asarray(matrices, dtype=np.float64)
    focal = within(k[:, [0, 1], [0, 1]], FOCAL_PX[1], FOCAL_PX[0])
    rest = within(k[:, :2, 2], PLACE_PX) & (np.abs(k[:, 1, 0]) <= 1e-6)
    skew = np.abs(k[:, 0, 1]) <= np.abs(k[:, 0, 0])
    return np.asarray(focal & rest & skew & (np.abs(k[:, 2] - [0, 0, 1]) <= 1e-6).all(axis=1))


def good_image_sizes(width: ArrayLike, height: ArrayLike) -> Mask:
    """Which sizes (N,) and (N,) an image can have."""
    w, h = np.asarray(width, dtype=np.float64), np.asarray(height, dtype=np.float64)
    return np.asarray((w >= 1) & (h >= 1) & (w <= SIDE_PX) & (h <= SIDE_PX) & (w * h <= PIXELS))


def repeats(*columns: Any) -> Mask:
    """Which rows (N,) of some columns (N,) are equal to an earlier one."""
    rows: list[tuple[Any, ...]] = list(zip(*(np.asarray(column).tolist() for column in columns), strict=True))
    seen: set[tuple[Any, ...]] = set()
    out = np.zeros(len(rows), dtype=bool)
    if len(set(rows)) < len(rows):
        for i, row in enumerate(rows):
            out[i] = row in seen
            seen.add(row)
    return out


def number(word: str) -> float:
    """A decimal number as formats of text write it: no underscores, no digits of other scripts, no words.

    Raises:
        ValueError: it is none, or not finite.
    """
    if len(word) > _LONGEST_NUMBER or not _NUMBER.fullmatch(word):
        # Words for what is not finite are numbers to most readers; they deserve to be named.
        known = word.lower().lstrip("+-") in ("nan", "inf", "infinity")
        raise ValueError(f"{word[:40]} is not finite" if known else f"{word[:40]!r} is not a number")
    value = float(word)
    if not np.isfinite(value):
        raise ValueError(f"{word[:40]} is not finite")
    return value


def whole(word: str) -> int:
    """A whole number that is not negative, of at most 18 decimal digits.

    Raises:
        ValueError: it is none.
    """
    if not (word.isascii() and word.isdigit() and len(word) <= 18):
        raise ValueError(f"{word[:40]!r} is not a whole number")
    return int(word)
