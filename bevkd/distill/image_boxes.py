"""Boxes as the cameras see them: rectangles in the images, and the feature cells these touch."""

from __future__ import annotations

import torch
from torch import Tensor

from bevkd.data.batch import Boxes, Cameras
from bevkd.distill.crucial_points import crucial_points

_NEAR = 0.1  # m: what is nearer to the image plane, or behind it, is projected as if it were there


def box_corners(boxes: Tensor) -> Tensor:
    """The eight corners (M, 8, 3) of boxes (M, 7+), bottom four first."""
    flat = crucial_points(boxes)[:, :4]
    heights = (boxes[:, None, 2:3] + sign * boxes[:, None, 5:6] / 2 for sign in (-1, 1))
    return torch.cat([torch.cat([flat, z.expand(-1, 4, -1)], dim=-1) for z in heights], dim=1)


def image_rectangles(boxes: Boxes, cameras: Cameras, bev_aug: Tensor) -> tuple[Tensor, Tensor]:
    """Axis-aligned hulls of the projected corners, cut to the image.

    A box whose centre lies behind a camera is not seen; one that reaches behind it extends to the border.

    Args:
        boxes: M boxes in the augmented ego frame.
        cameras: geometry of B frames x N cameras.
        bev_aug: (B, 4, 4) augmented ego from ego.

    Returns:
        (M, N, 4) u0, v0, u1, v1 in pixels of the augmented images, and (M, N) whether the camera sees the box.
    """
    height, width = cameras.images.shape[-2:]
    b = boxes.boxes.double()
    points = torch.cat([box_corners(b), b[:, None, :3]], dim=1)  # (M, 9, 3), the centre last
    camera_from_ego = torch.linalg.inv(bev_aug.double()[:, None] @ cameras.ego_from_camera.double())[boxes.frame]
    rotation, origin = camera_from_ego[..., :3, :3], camera_from_ego[..., :3, 3]
    local = points[:, None] @ rotation.transpose(-1, -2) + origin[:, :, None]  # (M, N, 9, 3)
    pixel_from_camera = (cameras.image_aug.double() @ cameras.intrinsics.double())[boxes.frame]
    seen = local[..., 8, 2] > _NEAR
    corners = torch.cat([local[..., :8, :2], local[..., :8, 2:].clamp(min=_NEAR)], dim=-1)
    homogeneous = corners @ pixel_from_camera.transpose(-1, -2)
    pixel = homogeneous[..., :2] / homogeneous[..., 2:]
    low = pixel.amin(dim=2).clamp(min=0)
    high = torch.minimum(pixel.amax(dim=2), pixel.new_tensor([width, height]))
    seen = seen & (low < high).all(dim=-1)
    return torch.cat([low, high], dim=-1), seen


def rectangle_mask(
    rectangles: Tensor, seen: Tensor, frame: Tensor, batch_size: int, size: tuple[int, int], image: tuple[int, int]
) -> Tensor:
    """Which cells (B, N, h, w) of a feature level the rectangles touch.

    Args:
        rectangles, seen: see `image_rectangles`.
        frame: (M,) frame of each rectangle.
        batch_size: B.
        size: (h, w) of the level.
        image: (H, W) of the images.
    """
    height, width = size
    v = torch.arange(height, device=rectangles.device) * (image[0] / height)
    u = torch.arange(width, device=rectangles.device) * (image[1] / width)
    u0, v0, u1, v1 = (rectangles[..., k, None] for k in range(4))
    columns = (u < u1) & (u + image[1] / width > u0)  # (M, N, w)
    rows = (v < v1) & (v + image[0] / height > v0)
    inside = rows[..., :, None] & columns[..., None, :] & seen[..., None, None]
    out = torch.zeros(batch_size, *inside.shape[1:], dtype=torch.int32, device=rectangles.device)
    return out.index_add_(0, frame, inside.int()) > 0


def image_cells(level: Tensor, cell: Tensor, frame: Tensor) -> Tensor:
    """Features (n, C) of a level (B, N, C, h, w) at cells `(camera * h + row) * w + column` of frames."""
    area = level.shape[-2] * level.shape[-1]
    return level.flatten(-2)[frame, torch.div(cell, area, rounding_mode="floor"), :, cell % area].float()
