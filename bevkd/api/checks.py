"""Whether arrays can be what they are given for. Every check says what it wanted and what it got."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from bevkd.data.load import RawFrame
from bevkd.data.points import Points
from bevkd.errors import ConfigError

Arrays: TypeAlias = ArrayLike | Sequence[ArrayLike]
_ROUNDED = 1e-3  # how far the axes of a published pose may be from orthonormal


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
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise ConfigError(f"{name}: wants numbers of shape {shape}") from None
    if array.shape != shape:
        raise ConfigError(f"{name}: wants shape {shape}, got {array.shape}")
    if not np.isfinite(array).all():
        raise ConfigError(f"{name}: holds a value that is not finite")
    return array


def cloud(name: str, value: Any) -> Points:
    """Points (N, 4+) as readers give them.

    Raises:
        ConfigError: they have another shape, or are not finite.
    """
    try:
        points = np.asarray(value, dtype=np.float32)
    except (TypeError, ValueError):
        raise ConfigError(f"{name}: wants numbers of shape (N, 4)") from None
    if points.ndim != 2 or points.shape[1] < 4:
        raise ConfigError(f"{name}: wants shape (N, 4), x, y, z, intensity, got {points.shape}")
    if not np.isfinite(points[:, :4]).all():
        raise ConfigError(f"{name}: holds points that are not finite")
    return points


def pictures(images: Arrays) -> list[Image.Image]:
    """Images as readers decode them.

    Raises:
        ConfigError: there is none, or one is not RGB bytes.
    """
    if not isinstance(images, Sequence | np.ndarray):
        raise ConfigError(f"images: wants an array (n, H, W, 3), or a list of images, got {type(images).__name__}")
    out = []
    for n, one in enumerate(cast(Sequence[Any], images)):
        array = np.asarray(one)
        if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or array.size == 0:
            raise ConfigError(f"images[{n}]: wants RGB bytes, uint8 (H, W, 3), got {array.dtype} {array.shape}")
        out.append(Image.fromarray(np.ascontiguousarray(array)))
    if not out:
        raise ConfigError("images: none are given")
    return out


def check_principal_points(raw: RawFrame) -> None:
    """Calibrations of images of another size are the commonest mistake, and give plausible boxes in wrong places.

    Raises:
        ConfigError: the optical axis of a camera does not meet its image.
    """
    assert raw.images is not None
    assert raw.intrinsics is not None
    for n, (image, matrix) in enumerate(zip(raw.images, raw.intrinsics, strict=True)):
        x, y = matrix[0, 2], matrix[1, 2]
        if not (0 < x < image.width and 0 < y < image.height):
            raise ConfigError(
                f"calibration['intrinsics'][{n}]: the principal point ({x:g}, {y:g}) lies outside of the image of"
                f" {image.width} x {image.height} pixels: intrinsics are those of the image as it is given"
            )


def check_poses(name: str, poses: NDArray[np.float64]) -> None:
    """Whether matrices (N, 4, 4) are poses.

    Raises:
        ConfigError: one is not.
    """
    turn = poses[:, :3, :3]
    upright = np.abs(turn @ turn.transpose(0, 2, 1) - np.eye(3)).max(axis=(1, 2)) < _ROUNDED
    if not upright.all() or not np.allclose(poses[:, 3], [0, 0, 0, 1]) or (np.linalg.det(turn) < 0).any():
        raise ConfigError(f"calibration[{name!r}]: each is a 4 x 4 matrix of a rotation and a translation")
