"""`Batch`: what the data pipeline hands to detectors, losses and distillation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

REPEATED_S = 1 / 12  # one period of a camera: the time to the images before where these are the current ones


@dataclass
class Cameras:
    """Images and geometry of N cameras for B frames.

    Attributes:
        images: (B, N, 3, H, W) float32, normalised RGB, channels last in memory; uint8 RGB until `Batch.to` brings
            them to their device.
        intrinsics: (B, N, 3, 3) of the source image (before augmentation).
        ego_from_camera: (B, N, 4, 4): camera frame at its own time stamp to the ego frame of the keyframe.
        image_aug: (B, N, 3, 3): homogeneous source pixels (u, v, 1) to pixels of `images`.
        depth: (B, N, H / stride, W / stride) metres, nearest LiDAR point per block, 0 where there is none; or None.
        lidar: (B, N, H, W) metres, nearest LiDAR point per pixel of `images`, 0 where there is none; or None.
        mean, std: of the normalisation that is still to be done, per RGB channel; None once it is.
    """

    images: Tensor
    intrinsics: Tensor
    ego_from_camera: Tensor
    image_aug: Tensor
    depth: Tensor | None = None
    lidar: Tensor | None = None
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None


@dataclass
class PastCameras:
    """Earlier images of the same N cameras, in their order and of their size, for B frames.

    Attributes:
        images: (B, N, 3, H, W), as of `Cameras`.
        intrinsics: (B, N, 3, 3) of the source image.
        ego_from_camera: (B, N, 4, 4): camera frame at its own earlier time to the ego frame of that time, which is
            where the vehicle was when the first camera took its earlier image.
        image_aug: (B, N, 3, 3): homogeneous source pixels (u, v, 1) to pixels of `images`, drawn independently of
            those of the current images.
        now_from_past: (B, 4, 4): that ego frame to the ego frame of the keyframe, not augmented. `Batch.bev_aug` is
            the augmentation of both times.
        seconds: (B,) float32 time between the two images of the first camera, > 0; `REPEATED_S` where the current
            images stand in.
        repeated: (B,) bool: the current images stand in, because there are no earlier ones.
        mean, std: as of `Cameras`.
    """

    images: Tensor
    intrinsics: Tensor
    ego_from_camera: Tensor
    image_aug: Tensor
    now_from_past: Tensor
    seconds: Tensor
    repeated: Tensor
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None


Views = TypeVar("Views", Cameras, PastCameras)


def normalised(views: Views) -> Views:
    """With images as encoders read them."""
    if views.mean is None or views.std is None:
        return views
    return replace(views, images=normalise(views.images, views.mean, views.std), mean=None, std=None)


def normalise(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Images (..., 3, H, W) uint8 as float32 of mean 0 and deviation 1, channels last in memory.

    Whole rows of pixels at a time: an operation per channel would stride through memory.
    """
    pixels = images.movedim(-3, -1).contiguous()  # (..., H, W, 3)
    width = pixels.shape[-2]

    def row(values: list[float]) -> Tensor:
        # Made on the CPU and sent without waiting: made on a GPU it would wait for all that the GPU has still to do.
        return torch.tensor(values, dtype=torch.float32).repeat(width).to(images.device, non_blocking=True)

    out = pixels.to(torch.float32).flatten(-2)
    out.mul_(row([1.0 / s for s in std])).sub_(row([m / s for m, s in zip(mean, std, strict=True)]))
    return out.unflatten(-1, (width, 3)).movedim(-1, -3)


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


class StoredTargets:
    """Teacher values by name, in the precision of their cache."""

    def __init__(self, values: Targets) -> None:
        self.values = values

    def map(self, change: Callable[[Tensor], Tensor]) -> StoredTargets:
        """With every tensor changed."""
        return StoredTargets({name: Target(change(t.values), change(t.frame)) for name, t in self.values.items()})


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
        targets: what a teacher cache holds for the frames; None without a cache.
        teacher: the same frames under the same augmentation as a live teacher reads them; None where it reads what the
            student reads.
        extra: parts of new kinds of input, by name: tensors; dictionaries, lists, tuples or dataclasses of tensors.
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
    targets: StoredTargets | None = None
    teacher: Batch | None = None
    extra: dict[str, Any] = field(default_factory=dict)
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
        """The batch on another device, where its images are normalised: as bytes they travel four times faster."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=True))._normalised()

    def _normalised(self) -> Batch:
        cameras = None if self.cameras is None else normalised(self.cameras)
        extra = {name: normalised(part) if isinstance(part, PastCameras) else part for name, part in self.extra.items()}
        teacher = None if self.teacher is None else self.teacher._normalised()
        return self._with(cameras=cameras, extra=extra, teacher=teacher)

    def pin_memory(self) -> Batch:
        """The batch in memory from which a GPU can copy while it computes."""
        return self._map(Tensor.pin_memory)

    def _map(self, change: Callable[[Tensor], Tensor]) -> Batch:
        return self._with(**{f.name: _map(getattr(self, f.name), change) for f in fields(self) if f.init})

    def _with(self, **values: Any) -> Batch:
        out = replace(self, **values)
        out._flags = self.labelled_flags
        return out


def _map(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, Batch):
        return value._map(change)
    if isinstance(value, StoredTargets):
        return value.map(change)
    if isinstance(value, dict):
        return {name: _map(part, change) for name, part in value.items()}
    if isinstance(value, list | tuple):
        parts = [_map(part, change) for part in value]
        # A named tuple takes its parts one by one.
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: _map(getattr(value, f.name), change) for f in fields(value) if f.init})
    return value
