"""Whether arrays can be what they are given for. Every check says what it wanted and what it got."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeAlias, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from bevkd.api.numbers import depth, numbers, plain
from bevkd.data.checks import odd_points, off_centre
from bevkd.data.load import RawFrame
from bevkd.data.points import Points
from bevkd.data.valid import GLOBAL_M, good_poses
from bevkd.errors import ConfigError

Arrays: TypeAlias = ArrayLike | Sequence[ArrayLike]
_NOT_DOWN = -0.3  # z of a camera's y axis, on average: -1 where it is level, about 0 of an inverse


def given(name: str, value: Arrays | None) -> Arrays:
    """What a network reads.

    Raises:
        ConfigError: it is not there.
    """
    if value is None:
        raise ConfigError(f"this model reads {name}, and none are given")
    return value


def finite(name: str, value: Any, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Finite numbers of a shape.

    Raises:
        ConfigError: they are not.
    """
    array = numbers(name, value, np.float64, f"numbers of shape {shape}")
    if array.shape != shape:
        raise ConfigError(f"{name}: wants shape {shape}, got {array.shape}")
    if not np.isfinite(array).all():
        raise ConfigError(f"{name}: holds a value that is not finite")
    return array


def cloud(name: str, value: Any, most: float = math.inf) -> Points:
    """Points (N, 4+) as readers give them.

    Raises:
        ConfigError: they have another shape, are not finite, or not what the format of the data set holds.
    """
    points = numbers(name, value, np.float32, "numbers of shape (N, 4)")
    if points.ndim != 2 or points.shape[1] < 4:
        raise ConfigError(f"{name}: wants shape (N, 4), x, y, z, intensity, got {points.shape}")
    if points.shape[0] in (4, 5) and points.shape[1] > 6:
        raise ConfigError(f"{name}: wants shape (N, 4), a row for each point, got {points.shape}: transpose it")
    if not np.isfinite(points[:, :4]).all():
        raise ConfigError(f"{name}: holds points that are not finite")
    if odd := odd_points(points, most):
        raise ConfigError(f"{name}: {odd[1]}")
    return points


def sweeps_of(points: Arrays) -> list[Any] | None:
    """The sweeps of a list or stack of them; None for a single array, which may be a list of rows."""
    if isinstance(points, list | tuple) and not points:
        return []
    return list(cast(Sequence[Any], points)) if depth(points) > 2 else None


def pictures(images: Arrays) -> list[Image.Image]:
    """Images as readers decode them.

    Raises:
        ConfigError: there is none, or one is not RGB bytes.
    """
    images = plain(images)
    if not isinstance(images, Sequence | np.ndarray):
        kind = type(images).__name__
        raise ConfigError(f"images: wants an array (n, H, W, 3), or a list of images, got {kind}; one image: [image]")
    if depth(images) == 3:
        raise ConfigError("images: wants an array (n, H, W, 3), or a list of images; one image: [image]")
    out = [_picture(f"images[{n}]", one) for n, one in enumerate(cast(Sequence[Any], images))]
    if not out:
        raise ConfigError("images: none are given")
    return out


def _picture(name: str, one: Any) -> Image.Image:
    try:
        array = np.asarray(plain(one))
    except ValueError:
        raise ConfigError(f"{name}: wants RGB bytes, uint8 (H, W, 3)") from None
    if isinstance(one, list | tuple) and array.dtype.kind == "i" and ((array >= 0) & (array < 256)).all():
        array = array.astype(np.uint8)  # Python's integers have no size
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or array.size == 0:
        last = "; the channels come last" if array.ndim == 3 and array.shape[0] == 3 else ""
        raise ConfigError(f"{name}: wants RGB bytes, uint8 (H, W, 3), got {array.dtype} {array.shape}{last}")
    return Image.fromarray(np.ascontiguousarray(array))


def check_principal_points(raw: RawFrame) -> None:
    """Calibrations of images of another size are the commonest mistake, and give plausible boxes in wrong places.

    Raises:
        ConfigError: the optical axis of a camera does not meet its image, or far from the middle.
    """
    assert raw.images is not None
    assert raw.intrinsics is not None
    for n, (image, matrix) in enumerate(zip(raw.images, raw.intrinsics, strict=True)):
        x, y = matrix[0, 2], matrix[1, 2]
        inside = 0 < x < image.width and 0 < y < image.height
        if not inside or off_centre(matrix, image.size):
            where = "lies far from the middle" if inside else "lies outside"
            raise ConfigError(
                f"calibration['intrinsics'][{n}]: the principal point ({x:g}, {y:g}) {where} of the image of"
                f" {image.width} x {image.height} pixels: intrinsics are those of the image as it is given"
            )


def check_poses(name: str, poses: NDArray[np.float64]) -> None:
    """Whether matrices (N, 4, 4) are poses.

    Raises:
        ConfigError: one is not.
    """
    if not good_poses(poses, GLOBAL_M).all():
        raise ConfigError(f"calibration[{name!r}]: each is a 4 x 4 matrix of a rotation and a translation")


def check_intrinsics(matrices: NDArray[np.float64]) -> None:
    """Whether matrices (n, 3, 3) are those of pinhole cameras.

    Raises:
        ConfigError: one is not.
    """
    if not np.allclose(matrices[:, 2], [0, 0, 1]):
        raise ConfigError("calibration['intrinsics']: the last row of each is 0, 0, 1")
    if (matrices[:, [0, 1], [0, 1]] <= 0).any() or (np.linalg.det(matrices) <= 0).any():
        raise ConfigError("calibration['intrinsics']: the focal lengths, first on the diagonal, are positive")


def check_axes(poses: NDArray[np.float64]) -> None:
    """Whether `ego_from_camera` (n, 4, 4) can be that: the y axes of cameras point down, if perhaps not of each.

    Raises:
        ConfigError: they do not.
    """
    if len(poses) and poses[:, 2, 1].mean() > _NOT_DOWN:
        raise ConfigError(
            "calibration['ego_from_camera']: the y axes of the cameras do not point down in the ego frame (z up): is it"
            " the inverse, or are the camera's axes not x right, y down, z forward?"
        )
