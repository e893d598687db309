"""Depth targets for cameras from the LiDAR points of the key sweep (UniDistill spec, 8.3)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bevkd.data.points import moved, multiply
from bevkd.geometry import invert


def depth_map(
    points: NDArray[np.float32],
    ego_from_camera: NDArray[np.float64],
    intrinsics: NDArray[np.float64],
    image_aug: NDArray[np.float64],
    source_size: tuple[int, int],
    target_size: tuple[int, int],
    stride: int,
) -> NDArray[np.float32]:
    """Smallest depth per `stride` x `stride` block of one augmented image.

    Args:
        points: (P, 3+) key-sweep points in the ego frame of the keyframe.
        ego_from_camera: (4, 4) of the camera at its own time stamp, through global poses.
        intrinsics: (3, 3) of the source image.
        image_aug: (3, 3) source pixels to augmented pixels.
        source_size, target_size: (height, width) of the source and of the augmented image.
        stride: block size (pixels).

    Returns:
        (H / stride, W / stride) metres along the optical axis, 0 where no point falls.
    """
    local = moved(points, invert(ego_from_camera))
    local = local[local[:, 2] > 0.01]
    depth = local[:, 2]
    pixel = multiply(local, intrinsics.T.astype(np.float32))[:, :2] / depth[:, None]
    height, width = source_size
    # Points within a pixel of the border often belong to something just outside of the view.
    inside = (pixel[:, 0] > 1) & (pixel[:, 0] < width - 1) & (pixel[:, 1] > 1) & (pixel[:, 1] < height - 1)
    pixel, depth = pixel[inside], depth[inside]
    m = image_aug.astype(np.float32)
    cell = np.floor((pixel @ m[:2, :2].T + m[:2, 2]) / stride).astype(np.int64)
    rows, columns = target_size[0] // stride, target_size[1] // stride
    good = (cell[:, 0] >= 0) & (cell[:, 0] < columns) & (cell[:, 1] >= 0) & (cell[:, 1] < rows)
    out = np.full(rows * columns, np.inf, dtype=np.float32)
    np.minimum.at(out, cell[good, 1] * columns + cell[good, 0], depth[good])
    out[np.isinf(out)] = 0
    return out.reshape(rows, columns)
