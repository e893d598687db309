"""2D labels of images: boxes, and which class is seen where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from bevkd.classes import CLASSES
from bevkd.data.batch import Batch
from bevkd.data.inputs.base import Change, InputReader
from bevkd.data.load import RawFrame
from bevkd.data.nuimages.objects import Objects, ObjectTable
from bevkd.data.reads import Objects as Declared
from bevkd.data.sample import Sample, present
from bevkd.registry import register

KEY = "objects"
BOXES, LABELS, MAP = (f"{KEY}.{part}" for part in ("boxes", "labels", "map"))  # arrays of a sample
UNKNOWN = 255  # in a label map: outside of the picture, or an object that was not outlined
_LEAST = 0.25  # share of a box that must be left of it after cropping
_MIN_SIDE = 1.0  # pixels


@dataclass
class ImageObjects:
    """2D labels of the images of a batch.

    Attributes:
        boxes: (M, 4) xmin, ymin, xmax, ymax in pixels of the augmented images.
        labels: (M,) class indices.
        image: (M,) int64 frame * N + camera, ascending.
        classes: (B * N, h, w) uint8 label map: 1 + class index, 0 where no object is seen, `UNKNOWN` where nobody
            knows; or None.
    """

    boxes: torch.Tensor
    labels: torch.Tensor
    image: torch.Tensor
    classes: torch.Tensor | None


@dataclass(frozen=True)
class _Labelled:
    """Labels of an image before augmentation.

    Attributes:
        boxes: (M, 4) in pixels of the size that they were made for.
        labels: (M,) class index or -1.
        map: (H, W) see `label_map`; or None.
        scale: (3, 3) from those pixels to those of the file.
    """

    boxes: NDArray[np.float64]
    labels: NDArray[np.int64]
    map: NDArray[np.uint8] | None
    scale: NDArray[np.float64]


@register("input", "objects")
class ObjectsReader(InputReader[Declared]):
    """`extra["objects"]` of a batch, see `ImageObjects`; of a sample the arrays `BOXES`, `LABELS` and `MAP`."""

    def __init__(self, declared: Declared, loader) -> None:  # type: ignore[no-untyped-def]
        super().__init__(declared, loader)
        index = loader.index
        self.table = ObjectTable(index.folder, index.columns["token"], index.facts.get("categories", {}))

    def load(self, frame: int, raw: RawFrame) -> None:
        """Boxes and masks as they are labelled."""
        assert raw.images is not None
        size = self.loader.index.sensors.size[self.loader.records(frame, "camera")[0]]
        scale = np.diag([raw.images[0].width / size[0], raw.images[0].height / size[1], 1.0])  # of resized images
        found = self.table.get(frame, masks=self.declared.stride > 0)
        seen = label_map(found, (int(size[1]), int(size[0]))) if self.declared.stride else None
        raw.extra[KEY] = _Labelled(found.boxes, found.labels, seen, scale)

    def augment(self, frame: int, raw: RawFrame, sample: Sample, change: Change) -> None:
        """Both as the augmented image shows them; a box of which little is left is dropped."""
        assert sample.cameras is not None
        found: _Labelled = raw.extra[KEY]
        size = sample.cameras.images.shape[1:3]
        matrix = sample.cameras.image_aug[0] @ found.scale
        boxes, kept = moved_boxes(found.boxes, matrix, size)
        kept &= found.labels >= 0
        sample.extra |= {BOXES: boxes[kept], LABELS: found.labels[kept]}
        if found.map is not None:
            sample.extra[MAP] = moved_map(found.map, matrix, size, self.declared.stride)

    @staticmethod
    def collate(samples: Sequence[Sample], batch: Batch) -> None:
        """`extra["objects"]`."""
        parts = [sample.extra for sample in samples]
        counts = torch.tensor([len(part[LABELS]) for part in parts])
        maps = present([part.get(MAP) for part in parts])
        batch.extra[KEY] = ImageObjects(
            boxes=torch.from_numpy(np.concatenate([part[BOXES] for part in parts]).astype(np.float32)),
            labels=torch.from_numpy(np.concatenate([part[LABELS] for part in parts])),
            image=torch.repeat_interleave(torch.arange(len(parts)), counts),
            classes=torch.from_numpy(np.stack(maps)) if maps else None,
        )

    @staticmethod
    def example(declared: Declared, batch: Batch, reach: float, returns: int) -> None:
        """One box per image, of every class in turn."""
        assert batch.cameras is not None
        b, n, _, height, width = batch.cameras.images.shape
        count = torch.arange(b * n)
        box = torch.tensor([width / 4, height / 4, width / 2, height / 2])
        shape = (b * n, height // max(1, declared.stride), width // max(1, declared.stride))
        batch.extra[KEY] = ImageObjects(
            boxes=box.repeat(b * n, 1),
            labels=count % len(CLASSES),
            image=count,
            classes=torch.zeros(shape, dtype=torch.uint8) if declared.stride else None,
        )


def label_map(found: Objects, size: tuple[int, int]) -> NDArray[np.uint8]:
    """What is seen at each pixel of an image of a size (height, width): see `ImageObjects.classes`."""
    out = np.zeros(size, dtype=np.uint8)
    for label, mask, box in zip(found.labels.tolist(), found.masks, found.boxes, strict=True):
        if mask is not None:
            out[mask] = label + 1  # 0 for what is no detection class
        else:
            x0, y0, x1, y1 = np.clip(np.round(box), 0, None).astype(int)
            out[y0:y1, x0:x1] = UNKNOWN
    return out


def moved_map(
    labels: NDArray[np.uint8], matrix: NDArray[np.float64], size: tuple[int, int], stride: int
) -> NDArray[np.uint8]:
    """A label map as an augmented image shows it, at the middle of each of its cells.

    Args:
        labels: (H, W) of the source image.
        matrix: (3, 3) source pixels to pixels of the augmented image.
        size: height and width of that.
        stride: side of a cell (pixels).
    """
    step = np.diag([float(stride), float(stride), 1.0])
    back = (np.linalg.inv(matrix) @ step)[:2].ravel().tolist()  # Pillow adds the half cell
    out = (size[1] // stride, size[0] // stride)
    picture = Image.fromarray(labels)
    return np.asarray(picture.transform(out, Image.Transform.AFFINE, back, fillcolor=UNKNOWN))


def moved_boxes(
    boxes: NDArray[np.float64], matrix: NDArray[np.float64], size: tuple[int, int]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Boxes in an augmented image, cut at its border, and which of them still show enough.

    Args:
        boxes: (M, 4) xmin, ymin, xmax, ymax in the source image.
        matrix: (3, 3) source pixels to pixels of the augmented image.
        size: height and width of that.

    Returns:
        Boxes (M, 4), those around the moved corners, and a mask (M,).
    """
    x, y = boxes[:, [0, 2, 0, 2]], boxes[:, [1, 1, 3, 3]]
    u = matrix[0, 0] * x + matrix[0, 1] * y + matrix[0, 2]
    v = matrix[1, 0] * x + matrix[1, 1] * y + matrix[1, 2]
    whole = np.stack([u.min(axis=1), v.min(axis=1), u.max(axis=1), v.max(axis=1)], axis=-1) if len(boxes) else boxes
    cut = np.clip(whole, 0.0, np.array([size[1], size[0], size[1], size[0]], dtype=np.float64))

    def area(b: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray((b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1]))

    side = np.minimum(cut[:, 2] - cut[:, 0], cut[:, 3] - cut[:, 1])
    return cut, np.asarray((side >= _MIN_SIDE) & (area(cut) >= _LEAST * area(whole)))
