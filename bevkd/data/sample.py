"""`Sample`: one frame as NumPy arrays, and `collate`, which turns some of them into a `Batch` of tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bevkd.data.batch import Batch, Boxes, StoredTargets, Target, Targets
from bevkd.registry import lookup


@dataclass
class CameraSample:
    """Images of one frame, not normalised.

    Attributes:
        images: (N, H, W, 3) uint8 RGB, augmented.
        intrinsics: (N, 3, 3) float64 of the source image.
        ego_from_camera: (N, 4, 4) float64.
        image_aug: (N, 3, 3) float64.
        depth: (N, H / stride, W / stride) metres, or None.
        lidar: (N, H, W) metres, or None.
        mean, std: of the normalisation, per RGB channel.
    """

    images: NDArray[np.uint8]
    intrinsics: NDArray[np.float64]
    ego_from_camera: NDArray[np.float64]
    image_aug: NDArray[np.float64]
    depth: NDArray[np.float32] | None
    lidar: NDArray[np.float32] | None
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


@dataclass
class Sample:
    """One augmented frame; fields mean the same as those of `Batch`.

    `variant` is -1 where the augmentation was drawn for one epoch and cannot be replayed. `inputs` names what was read
    (`bevkd.data.reads`), which says how samples become a batch; `extra` holds parts of new kinds of input.
    """

    token: str
    variant: int
    labelled: bool
    bev_aug: NDArray[np.float64]
    boxes: NDArray[np.float64]
    labels: NDArray[np.int64]
    inputs: tuple[str, ...]
    points: NDArray[np.float32] | None = None
    radar: NDArray[np.float32] | None = None
    cameras: CameraSample | None = None
    targets: dict[str, NDArray[Any]] | None = None
    teacher: Sample | None = None
    extra: dict[str, Any] = field(default_factory=dict)


def collate(samples: Sequence[Sample]) -> Batch:
    """Samples -> batch on the CPU, with images as bytes: `Batch.to` normalises them.

    Raises:
        ValueError: no sample, or one with boxes that is not labelled: losses take every box of a batch for an
            annotation that may be used.
    """
    if not samples:
        raise ValueError("cannot collate an empty list of samples")
    for sample in samples:
        if len(sample.boxes) and not sample.labelled:
            raise ValueError(f"sample {sample.token} is not labelled and has {len(sample.boxes)} boxes")
    boxes = np.concatenate([s.boxes for s in samples]).astype(np.float32)
    counts = [len(s.boxes) for s in samples]
    batch = Batch(
        tokens=[s.token for s in samples],
        variants=[s.variant for s in samples],
        labelled=torch.tensor([s.labelled for s in samples]),
        bev_aug=as_float(np.stack([s.bev_aug for s in samples])),
        boxes=Boxes(
            torch.from_numpy(boxes),
            torch.from_numpy(np.concatenate([s.labels for s in samples])),
            _frame_index(counts),
            torch.ones(len(boxes)),
        ),
        targets=stack_targets(present([s.targets for s in samples])),
        teacher=_views(present([s.teacher for s in samples])),
    )
    for name in samples[0].inputs:
        lookup("input", name).collate(samples, batch)
    return batch


def _views(samples: list[Sample]) -> Batch | None:
    return collate(samples) if samples else None


def stack_targets(parts: Sequence[dict[str, NDArray[Any]]]) -> StoredTargets | None:
    """Rows of every target, frame after frame; None without frames."""
    if not parts:
        return None
    out: Targets = {}
    for name in parts[0]:
        rows = [part[name] for part in parts]
        out[name] = Target(torch.from_numpy(np.concatenate(rows)), _frame_index([len(r) for r in rows]))
    return StoredTargets(out)


def as_float(array: NDArray[Any]) -> Tensor:
    """In the precision of tensors."""
    return torch.from_numpy(array.astype(np.float32))


def _frame_index(counts: list[int]) -> Tensor:
    return torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))


def flat(parts: Sequence[NDArray[np.float32] | None]) -> tuple[Tensor, Tensor]:
    """Rows of all samples one after the other, and the frame of each."""
    there = present(parts)
    return torch.from_numpy(np.concatenate(there)), _frame_index([len(part) for part in there])


def present(parts: Sequence[Any]) -> list[Any]:
    """The parts that are there."""
    return [part for part in parts if part is not None]
