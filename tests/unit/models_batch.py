"""Synthetic batches for tests of the detectors: boxes filled with points, painted into the images."""

from __future__ import annotations

import math

import numpy as np
import torch

from bevkd.config import ModelConfig, load_model
from bevkd.data.batch import Batch, Boxes, Cameras, PastCameras
from bevkd.data.radar import state_features
from bevkd.geometry import box_corners

SIZES = {0: (4.6, 1.9, 1.7), 1: (6.9, 2.5, 2.8), 5: (0.5, 2.5, 1.0), 8: (0.7, 0.7, 1.8)}


def model_config(model: str, scale: str = "sim", **over: object) -> ModelConfig:
    """The model section of `config/models/<model>.yaml` at a scale, with the given differences."""
    return load_model(model, scale, changes=dict(over))[0]


def make_boxes(frames: int, reach: float, seed: int = 0, per_frame: int = 4) -> Boxes:
    """Well separated boxes of four classes with headings and velocities."""
    rng = np.random.default_rng(seed)
    rows, labels, frame = [], [], []
    for b in range(frames):
        angles = rng.permutation(per_frame) * 2 * math.pi / per_frame + rng.uniform(0, 0.5)
        for k, angle in enumerate(angles):
            label = list(SIZES)[k % len(SIZES)]
            size = SIZES[label]
            radius = rng.uniform(0.35, 0.75) * reach
            yaw = rng.uniform(-math.pi, math.pi)
            speed = rng.uniform(0, 5)
            position = (radius * math.cos(angle), radius * math.sin(angle), size[2] / 2)
            rows.append((*position, *size, yaw, speed * math.cos(yaw), speed * math.sin(yaw)))
            labels.append(label)
            frame.append(b)
    boxes = torch.tensor(rows, dtype=torch.float32).reshape(-1, 9)
    return Boxes(boxes, torch.tensor(labels).long(), torch.tensor(frame).long(), torch.ones(len(rows)))


def make_points(boxes: Boxes, frames: int, reach: float, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Points inside every box (with the label in the intensity) and clutter on the ground."""
    rng = np.random.default_rng(seed + 1)
    parts, frame = [], []
    for box, label, b in zip(boxes.boxes.numpy(), boxes.labels.tolist(), boxes.frame.tolist(), strict=True):
        local = rng.uniform(-0.5, 0.5, (60, 3)) * box[3:6]
        local[:30, 0] = np.abs(local[:30, 0])  # denser front: heading is visible
        cos, sin = np.cos(box[6]), np.sin(box[6])
        xyz = np.stack([cos * local[:, 0] - sin * local[:, 1], sin * local[:, 0] + cos * local[:, 1], local[:, 2]], 1)
        rest = np.tile([20.0 + 20 * label, 0.0], (60, 1))
        parts.append(np.concatenate([xyz + box[:3], rest], axis=1))
        frame += [b] * 60
    for b in range(frames):
        ground = np.concatenate([rng.uniform(-reach, reach, (300, 2)), rng.normal(0, 0.03, (300, 1))], axis=1)
        parts.append(np.concatenate([ground, rng.uniform(0, 30, (300, 1)), np.zeros((300, 1))], axis=1))
        frame += [b] * 300
    order = rng.permutation(len(frame))
    points = torch.from_numpy(np.concatenate(parts).astype(np.float32))[order]
    return points, torch.tensor(frame)[order]


def make_cameras(frames: int, size: tuple[int, int], cameras: int = 6, focal: float = 0.8) -> Cameras:
    """A ring of level cameras 1.5 m above the ground; grey images."""
    height, width = size
    f = focal * width
    k = torch.tensor([[f, 0, width / 2], [0, f, height / 2], [0, 0, 1.0]])
    poses = []
    for n in range(cameras):
        yaw = 2 * math.pi * n / cameras
        forward = torch.tensor([math.cos(yaw), math.sin(yaw), 0.0])
        right = torch.tensor([math.sin(yaw), -math.cos(yaw), 0.0])
        pose = torch.eye(4)
        pose[:3, :3] = torch.stack([right, torch.tensor([0.0, 0.0, -1.0]), forward], dim=1)
        pose[:3, 3] = torch.tensor([0.0, 0.0, 1.5]) + 0.5 * forward
        poses.append(pose)
    return Cameras(
        images=torch.zeros(frames, cameras, 3, height, width),
        intrinsics=k.expand(frames, cameras, 3, 3).clone(),
        ego_from_camera=torch.stack(poses).expand(frames, -1, 4, 4).clone(),
        image_aug=torch.eye(3).expand(frames, cameras, 3, 3).clone(),
    )


def make_past(cameras: Cameras, seconds: float = 0.5) -> PastCameras:
    """The same images from the same cameras, so long before, with a vehicle that did not move."""
    frames = len(cameras.images)
    return PastCameras(
        images=cameras.images.clone(),
        intrinsics=cameras.intrinsics.clone(),
        image_aug=cameras.image_aug.clone(),
        ego_from_camera=cameras.ego_from_camera.clone(),
        now_from_past=torch.eye(4).expand(frames, 4, 4).clone(),
        seconds=torch.full((frames,), seconds),
        repeated=torch.zeros(frames, dtype=torch.bool),
    )


def paint(cameras: Cameras, boxes: Boxes) -> None:
    """Fill the image rectangle of each box with a colour of its class and heading, far boxes first."""
    height, width = cameras.images.shape[-2:]
    order = boxes.boxes[:, :2].norm(dim=1).argsort(descending=True)
    for i in order.tolist():
        b, box = int(boxes.frame[i]), boxes.boxes[i].double()
        corners = torch.from_numpy(box_corners(box[None].numpy())[0])
        for n in range(cameras.images.shape[1]):
            pose = cameras.ego_from_camera[b, n].double()
            local = (corners - pose[:3, 3]) @ pose[:3, :3]
            if (local[:, 2] < 0.5).any():
                continue
            uv = local @ cameras.intrinsics[b, n].double().T
            uv = uv[:, :2] / uv[:, 2:]
            (u0, v0), (u1, v1) = uv.min(0).values.tolist(), uv.max(0).values.tolist()
            left, right = max(0, math.floor(u0)), min(width, math.ceil(u1))
            top, bottom = max(0, math.floor(v0)), min(height, math.ceil(v1))
            if left >= right or top >= bottom:
                continue
            yaw = float(box[6])
            colour = torch.tensor([(int(boxes.labels[i]) - 4) / 4, math.cos(yaw), math.sin(yaw)])
            cameras.images[b, n, :, top:bottom, left:right] = colour[:, None, None]


def make_radar(boxes: Boxes, frames: int, reach: float, seed: int = 0) -> dict[str, torch.Tensor]:
    """Radar returns of every box, with its velocity, and false alarms: features (R, 45) and the frame of each."""
    rng = np.random.default_rng(seed + 2)
    each, alarms = 4, 30
    of = np.repeat(np.arange(len(boxes)), each)
    target = np.zeros((len(of), 11), dtype=np.float32)
    target[:, :2] = boxes.boxes[of, :2].numpy() + rng.uniform(-0.4, 0.4, (len(of), 2))
    target[:, 2], target[:, 3] = 0.5, 5.0 + 2 * boxes.labels[of].numpy()
    target[:, 4:6] = boxes.boxes[of, 7:9].numpy()
    target[:, 7:] = [0, 3, 0, 1]
    alarm = np.zeros((frames * alarms, 11), dtype=np.float32)
    alarm[:, :2], alarm[:, 2] = rng.uniform(-reach, reach, (len(alarm), 2)), 0.5
    alarm[:, 3], alarm[:, 7:] = rng.normal(-5, 4, len(alarm)), [1, 1, 4, 5]
    frame = torch.cat([boxes.frame[of], torch.arange(frames).repeat_interleave(alarms)])
    order = torch.argsort(frame, stable=True)
    points = torch.from_numpy(state_features(np.concatenate([target, alarm])))
    return {"points": points[order], "frame": frame[order]}


def make_virtual(boxes: Boxes, frames: int, seed: int = 0) -> dict[str, torch.Tensor]:
    """Painted and virtual points of every box, (V, 17), and the frame of each."""
    rng = np.random.default_rng(seed + 3)
    each = 20
    of = np.repeat(np.arange(len(boxes)), each)
    local = rng.uniform(-0.4, 0.4, (len(of), 3)) * boxes.boxes[of, 3:6].numpy()
    made = np.zeros((len(of), 17), dtype=np.float32)
    made[:, :3] = boxes.boxes[of, :3].numpy() + local
    made[:, 3], made[:, 14] = -1.0, 0.9
    made[np.arange(len(of)), 4 + boxes.labels[of].numpy()] = 1.0
    made[:, 15] = -1.0
    made[::4, 3], made[::4, 15] = 40.0, 0.0  # painted
    return {"points": torch.from_numpy(made), "frame": boxes.frame[of]}


def make_batch(config: ModelConfig, frames: int = 2, seed: int = 0) -> Batch:
    """A labelled batch with points, virtual ones, images now and before, depths and radar, whatever the sensors."""
    reach = config.grid.reach
    boxes = make_boxes(frames, reach, seed)
    points, point_frame = make_points(boxes, frames, reach, seed)
    cameras = make_cameras(frames, (64, 176) if config.camera is None else config.camera.image_size)
    paint(cameras, boxes)
    cameras.lidar = cameras.images.new_zeros(frames, *cameras.images.shape[1:2], *cameras.images.shape[-2:])
    cameras.lidar[..., ::4, ::8] = 10.0
    return Batch(
        tokens=[f"frame{b}" for b in range(frames)],
        variants=[0] * frames,
        labelled=torch.ones(frames, dtype=torch.bool),
        bev_aug=torch.eye(4).expand(frames, 4, 4).clone(),
        boxes=boxes,
        points=points,
        point_frame=point_frame,
        cameras=cameras,
        extra={
            "radar_features": make_radar(boxes, frames, reach, seed),
            "lidar_virtual": make_virtual(boxes, frames, seed),
            "camera_past": make_past(cameras),
        },
    )
