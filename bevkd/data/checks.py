"""What is known twice of sensor files is compared: image sizes with calibrations, points with what a format holds."""

from __future__ import annotations

from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from bevkd import regular
from bevkd.data.pictures import picture
from bevkd.data.points import Points
from bevkd.data.valid import FARTHEST_M
from bevkd.errors import DataError
from bevkd.io import reading

_ENDS = {"JPEG": b"\xff\xd9", "PNG": b"IEND"}
_TAIL = 4096  # bytes at the end of a file in which that is looked for
_OFF_CENTRE = 0.2  # of width and height both: no lens is mounted like that


def image_size(path: str | Path, token: str | None = None) -> tuple[int, int]:
    """Width and height of an image, from its header.

    Raises:
        DataError: it is missing, unreadable, cut short, or not what `bevkd.data.pictures` takes.
    """
    with reading(path, "image", token=token):
        stream = regular.open_regular(path, regular.IMAGE)
    with stream, picture(stream, path, token) as image:
        size = image.size
        if not _ends(stream, image.format):
            image.load()
        return size


def _ends(stream: IO[bytes], kind: str | None) -> bool:
    """Whether a file ends with what its format (of Pillow) ends with; others, and what stands behind, only decoding
    tells.
    """
    at = stream.tell()
    stream.seek(max(0, stream.seek(0, 2) - _TAIL))
    found = _ENDS.get(kind or "", b"") in stream.read()
    stream.seek(at)
    return found


def check_size(found: tuple[int, int], known: tuple[int, int], path: str | Path, token: str | None = None) -> None:
    """Whether an image has the size (width, height) that its calibration was made for, as far as that is known.

    Raises:
        DataError: it has not.
    """
    if min(known) > 0 and tuple(found) != tuple(known):
        raise DataError(
            f"image is {found[0]}x{found[1]}, its calibration was made for {known[0]}x{known[1]}"
            " (`convert --rescale-images` or data.rescale_images scale the intrinsics with it)",
            file=path, token=token, field="width",
        )  # fmt: skip


def off_centre(intrinsics: NDArray[np.float64], size: tuple[int, int]) -> bool:
    """Whether a principal point (3, 3) is far off the middle of an image (width, height) in both directions."""
    return bool((np.abs(intrinsics[:2, 2] / np.array(size) - 0.5) > _OFF_CENTRE).all())


def check_centre(intrinsics: NDArray[np.float64], size: tuple[int, int], path: str | Path, token: str) -> None:
    """Whether a calibration can be that of an image: a resized one has its principal point far off in both directions.

    Args:
        intrinsics: (3, 3).
        size: width and height.
        path, token: for the message.

    Raises:
        DataError: it cannot.
    """
    if min(size) > 0 and off_centre(intrinsics, size):
        u, v = intrinsics[:2, 2]
        raise DataError(
            f"calibration does not fit an image of {size[0]}x{size[1]}: its principal point is ({u:.1f}, {v:.1f});"
            " was the image resized?",
            file=path, token=token, field="intrinsics",
        )  # fmt: skip


def odd_points(points: Points, most: float) -> tuple[str, str] | None:
    """A field and what is wrong with it, of points (P, 4+) that a format with intensities up to `most` cannot hold."""
    if len(points) == 0:
        return None
    farthest = float(np.abs(points[:, :3]).max())
    if farthest > FARTHEST_M:
        return (
            "points",
            f"a point lies {farthest:g} m away, farther than any LiDAR sees: another unit, or another layout?",
        )
    low, high = float(points[:, 3].min()), float(points[:, 3].max())
    if low < 0 or high > most:
        return (
            "intensity",
            f"intensities from {low:g} to {high:g}, but the format holds 0 to {most:g}: another scale or layout?",
        )
    return None


def check_points(points: Points, most: float, path: str | Path, token: str | None = None) -> None:
    """Whether points (P, 4+) are what their format holds: places within reach, intensities between 0 and `most`.

    Raises:
        DataError: they are not.
    """
    if odd := odd_points(points, most):
        raise DataError(odd[1], file=path, token=token, field=odd[0])
