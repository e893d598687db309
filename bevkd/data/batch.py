"""`Batch`: what the data pipeline hands to detectors, losses and distillation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torch import Tensor


@dataclass
class Cameras:
    """Images and geometry of N cameras for B frames.

    Attributes:
        images: (B, N, 3, H, W) float32, normalised RGB.
        intrinsics: (B, N, 3, 3) of the source image (before augmentation).
        ego_from_camera: (B, N, 4, 4): camera frame at its own time stamp to the ego frame of the keyframe.
        image_aug: (B, N, 3, 3): homogeneous source pixels (u, v, 1) to pixels of `images`.
        depth: (B, N, H / stride, W / stride) metres, nearest LiDAR point per block, 0 where there is none; or None.
        lidar: (B, N, H, W) metres, nearest LiDAR point per pixel of `images`, 0 where there is none; or None.
    """

    images: Tensor
    intrinsics: Tensor
    ego_from_camera: Tensor
    image_aug: Tensor
    depth: Tensor | None = None
    lidar: Tensor | None = None


@dataclass
class Boxes:
    """A flat list of boxes over the batch, sorted by frame; never padded.

    Attributes:
        boxes: (M, 9) float32 (x, y, z, l, w, h, yaw, vx, vy) in the (augmented) ego frame; NaN velocity is 0.
        labels: (M,) int64 class indices.
        frame: (M,) int64 index of the frame within the batch.
        scores: (M,) float32, 1 for annotations, the teacher's score for teacher boxes.
    """

    boxes: Tensor
    labels: Tensor
    frame: Tensor
    scores: Tensor

    @classmethod
    def empty(cls, device: torch.device | str = "cpu") -> Boxes:
        """No box at all."""
        index = torch.zeros(0, dtype=torch.long, device=device)
        return cls(torch.zeros(0, 9, device=device), index, index.clone(), torch.zeros(0, device=device))

    @classmethod
    def cat(cls, parts: Sequence[Boxes]) -> Boxes:
        """The boxes of one or more lists, one after the other; `frame` must count over all of them already."""
        return cls(*(torch.cat([getattr(part, f.name) for part in parts]) for f in fields(cls)))

    def __len__(self) -> int:
        return len(self.boxes)

    def select(self, mask: Tensor) -> Boxes:
        """The boxes where `mask` (M,) is true, or at the given indices, in that order."""
        return Boxes(self.boxes[mask], self.labels[mask], self.frame[mask], self.scores[mask])


@dataclass
class Target:
    """Teacher values: `values` (n, ...) and the frame (n,) within the batch that each entry belongs to, ascending.

    A dense map is n = B entries with frame = arange(B); nine points per box are n = number of boxes.
    """

    values: Tensor
    frame: Tensor


Targets = dict[str, Target]


@dataclass
class Batch:
    """B frames.

    Attributes:
        tokens: sample tokens.
        variants: augmentation variant of each frame (0 is the identity at test time).
        labelled: (B,) bool: the frame's annotations may be used.
        bev_aug: (B, 4, 4) augmented ego from ego.
        boxes: annotations of the labelled frames, in the augmented ego frame.
        points: (P, 5) LiDAR x, y, z (augmented ego frame, m), intensity (0-255), dt (s, >= 0); None without LiDAR.
        point_frame: (P,) int64.
        radar: (R, 7) x, y, z, rcs, vx, vy (compensated, m/s), dt; None without radar.
        radar_frame: (R,) int64.
        cameras: None without cameras.
        targets: what a teacher cache holds for the frames, in its precision; None without a cache.
        teacher: the same frames under the same augmentation as a live teacher reads them; None where it reads what the
            student reads.
    """

    tokens: list[str]
    variants: list[int]
    labelled: Tensor
    bev_aug: Tensor
    boxes: Boxes
    points: Tensor | None = None
    point_frame: Tensor | None = None
    radar: Tensor | None = None
    radar_frame: Tensor | None = None
    cameras: Cameras | None = None
    targets: Targets | None = None
    teacher: Batch | None = None
    _flags: list[bool] | None = field(default=None, init=False, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def labelled_flags(self) -> list[bool]:
        """`labelled` on the host: read once, before the batch goes to its device."""
        if self._flags is None:
            self._flags = self.labelled.tolist()
        return self._flags

    def to(self, device: torch.device | str) -> Batch:
        """The batch on another device."""
        moved = replace(self, **{f.name: _to(getattr(self, f.name), device) for f in fields(self) if f.init})
        moved._flags = self.labelled_flags
        return moved


def _to(value: Any, device: torch.device | str) -> Any:
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=True)
    if isinstance(value, Batch):
        return value.to(device)
    if isinstance(value, dict):
        return {name: _to(target, device) for name, target in value.items()}
    if isinstance(value, (Boxes, Cameras, Target)):
        return replace(value, **{f.name: _to(getattr(value, f.name), device) for f in fields(value)})
    return value
