"""Images of the keyframe and where they were taken from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL.Image import Image

from bevkd.config.schema import ImageAugmentConfig
from bevkd.data.batch import Batch, Cameras
from bevkd.data.images import Horizon, ImageTransform, test_transform, train_transform
from bevkd.data.inputs.base import Change, InputReader
from bevkd.data.load import RawFrame
from bevkd.data.reads import Camera
from bevkd.data.sample import CameraSample, Sample, as_float, present
from bevkd.registry import register


@dataclass
class _View:
    """Images of one frame after image augmentation."""

    images: NDArray[np.uint8]
    image_aug: NDArray[np.float64]


@register("input", "camera")
class CameraReader(InputReader[Camera]):
    """`cameras`, as bytes: they are normalised where they arrive."""

    def load(self, frame: int, raw: RawFrame) -> None:
        """Decoded images, intrinsics and poses."""
        at = self.loader.records(frame, "camera")
        found = [self.loader.image(i) for i in at]
        raw.images = [image for image, _ in found]
        raw.intrinsics = np.stack([intrinsics for _, intrinsics in found])
        raw.ego_from_camera = self.loader.ego_from_sensor(frame, at)

    def augment(self, frame: int, raw: RawFrame, sample: Sample, change: Change) -> None:
        """Images of the declared size."""
        assert raw.intrinsics is not None
        assert raw.ego_from_camera is not None
        view = self._once(frame, change, lambda: self._view(raw, change))
        sample.cameras = CameraSample(
            images=view.images,
            intrinsics=raw.intrinsics,
            ego_from_camera=raw.ego_from_camera,
            image_aug=view.image_aug,
            depth=None,
            lidar=None,
            mean=self.declared.mean,
            std=self.declared.std,
        )

    def _view(self, raw: RawFrame, change: Change) -> _View:
        assert raw.images is not None
        assert raw.intrinsics is not None
        return _View(*cut_images(raw.images, raw.intrinsics, self.declared, change.images, change.rng))

    @staticmethod
    def collate(samples: Sequence[Sample], batch: Batch) -> None:
        """`cameras`."""
        cameras: list[CameraSample] = present([s.cameras for s in samples])
        pixels = torch.from_numpy(np.stack([s.images for s in cameras]))  # (B, N, H, W, 3)
        batch.cameras = Cameras(
            images=pixels.movedim(-1, -3),
            intrinsics=as_float(np.stack([s.intrinsics for s in cameras])),
            ego_from_camera=as_float(np.stack([s.ego_from_camera for s in cameras])),
            image_aug=as_float(np.stack([s.image_aug for s in cameras])),
            mean=cameras[0].mean,
            std=cameras[0].std,
        )

    @staticmethod
    def example(declared: Camera, batch: Batch, reach: float, returns: int) -> None:
        """Random images around the vehicle."""
        batch.cameras = ring_of_cameras(declared.size)


def cut_images(
    sources: Sequence[Image],
    intrinsics: NDArray[np.float64],
    declared: Camera,
    augment: ImageAugmentConfig | None,
    rng: np.random.Generator | None,
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Images (N, H, W, 3) of the declared size, and source pixels to pixels of them (N, 3, 3).

    Args:
        sources: N decoded images.
        intrinsics: (N, 3, 3) of them.
        declared: what is wanted.
        augment: how they are augmented; None: as at test time.
        rng: source of what is drawn, one image after the other; None: as at test time.
    """
    target = declared.size
    images = np.empty((len(sources), *target, 3), dtype=np.uint8)
    matrices = []
    for n, source in enumerate(sources):
        size, horizon = (source.height, source.width), None
        if declared.horizon is not None:
            horizon = Horizon(float(intrinsics[n, 1, 2]) / source.height, declared.horizon)
        change: ImageTransform
        if augment is not None and rng is not None:
            change = train_transform(size, target, augment, rng, horizon)
        else:
            change = test_transform(size, target, horizon)
        images[n] = np.asarray(change.apply(source, declared.crop_in_resize))
        matrices.append(change.matrix())
    return images, np.stack(matrices)


def ring_of_cameras(size: tuple[int, int], count: int = 6) -> Cameras:
    """One frame of random images from level cameras around the vehicle, 1.6 m above the ground."""
    height, width = size
    focal = 0.8 * width
    k = torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
    poses = torch.eye(4).repeat(1, count, 1, 1)
    for n in range(count):
        yaw = 2 * math.pi * n / count
        forward = torch.tensor([math.cos(yaw), math.sin(yaw), 0.0])
        right = torch.tensor([math.sin(yaw), -math.cos(yaw), 0.0])
        poses[0, n, :3, :3] = torch.stack([right, torch.tensor([0.0, 0.0, -1.0]), forward], dim=1)
        poses[0, n, 2, 3] = 1.6
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(1, count, 3, height, width, generator=generator)
    return Cameras(images, k.repeat(1, count, 1, 1), poses, torch.eye(3).repeat(1, count, 1, 1))
