"""Camera images: reading, and the resize / crop / flip / rotate augmentation as one 3x3 matrix.

Pixel coordinates are edge based (pixel i covers [i, i + 1)), in which resizing by s is exactly u' = s * u.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bevkd import regular
from bevkd.config.schema import ImageAugmentConfig
from bevkd.data.pictures import as_rgb, picture
from bevkd.io import reading


@dataclass(frozen=True)
class ImageTransform:
    """Resize, cut out the target size (zeros outside), flip left-right, rotate about the centre, in this order.

    Attributes:
        source, target: sizes (height, width).
        resized: size (height, width) after scaling.
        corner: (row, column) of the crop in the resized image; may be negative.
        rotate_deg: counter-clockwise as seen in the image.
    """

    source: tuple[int, int]
    target: tuple[int, int]
    resized: tuple[int, int]
    corner: tuple[int, int] = (0, 0)
    flip: bool = False
    rotate_deg: float = 0.0

    def matrix(self) -> NDArray[np.float64]:
        """Homogeneous source pixels (u, v, 1) to target pixels, (3, 3)."""
        height, width = self.target
        m = np.diag([self.resized[1] / self.source[1], self.resized[0] / self.source[0], 1.0])
        m[0, 2], m[1, 2] = -self.corner[1], -self.corner[0]
        if self.flip:
            m = np.array([[-1.0, 0.0, width], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]) @ m
        if self.rotate_deg:
            angle = math.radians(self.rotate_deg)
            cos, sin = math.cos(angle), math.sin(angle)
            cx, cy = width / 2, height / 2
            # Rows grow downwards, so counter-clockwise to the eye is this sign.
            turn = np.array(
                [[cos, sin, cx - cos * cx - sin * cy], [-sin, cos, cy + sin * cx - cos * cy], [0.0, 0.0, 1.0]]
            )
            m = turn @ m
        return m

    def apply(self, image: Image.Image, crop_in_resize: bool = False) -> Image.Image:
        """The transformed image.

        Args:
            image: of the source size.
            crop_in_resize: compute only the pixels that the crop keeps. Their places are the same, but PIL rounds them
                to float32, so that some values differ by one or two of 255.
        """
        image = self._resize_part(image) if crop_in_resize else self._resize_all(image)
        if self.flip:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        if self.rotate_deg:
            image = image.rotate(self.rotate_deg, Image.Resampling.BILINEAR)
        return image

    def _resize_all(self, image: Image.Image) -> Image.Image:
        if self.resized != self.source:
            image = image.resize(self.resized[::-1], Image.Resampling.BILINEAR)
        top, left = self.corner
        height, width = self.target
        if (top, left, *self.target) != (0, 0, *self.resized):
            image = image.crop((left, top, left + width, top + height))
        return image

    def _resize_part(self, image: Image.Image) -> Image.Image:
        (top, left), (height, width) = self.corner, self.target
        # What of the resized image the crop keeps, there and in the source.
        y0, y1 = max(0, top), min(self.resized[0], top + height)
        x0, x1 = max(0, left), min(self.resized[1], left + width)
        dy, dx = self.source[0] / self.resized[0], self.source[1] / self.resized[1]
        box = (x0 * dx, y0 * dy, min(x1 * dx, self.source[1]), min(y1 * dy, self.source[0]))
        part = image.resize((x1 - x0, y1 - y0), Image.Resampling.BILINEAR, box)
        if part.size == (width, height):
            return part
        out = Image.new(image.mode, (width, height))
        out.paste(part, (x0 - left, y0 - top))
        return out


@dataclass(frozen=True)
class Horizon:
    """What is to come to lie where, in rows as shares of the height.

    Attributes:
        source: principal point of the source image.
        target: where it belongs in the image of the target size.
    """

    source: float
    target: float


def _top(resized: int, target: int, horizon: Horizon | None) -> int:
    """First row of the resized image to keep: so that the bottom ones are, or the horizon lies where it belongs."""
    if horizon is None:
        return resized - target
    return round(horizon.source * resized - horizon.target * target)


def test_transform(
    source: tuple[int, int],
    target: tuple[int, int],
    horizon: Horizon | None = None,  # noqa: PT028 -- no test
) -> ImageTransform:
    """Smallest scale that fills the target, bottom rows (or those that `horizon` says), horizontally centred; the
    identity for equal sizes.
    """
    scale = max(target[0] / source[0], target[1] / source[1])
    resized = (max(target[0], round(source[0] * scale)), max(target[1], round(source[1] * scale)))
    corner = (_top(resized[0], target[0], horizon), (resized[1] - target[1]) // 2)
    return ImageTransform(source, target, resized, corner)


def train_transform(
    source: tuple[int, int],
    target: tuple[int, int],
    config: ImageAugmentConfig,
    rng: np.random.Generator,
    horizon: Horizon | None = None,
) -> ImageTransform:
    """A random transform: scale, bottom-aligned crop (unless `horizon` says otherwise) with random left edge, flip,
    rotation (UniDistill spec, 3).

    The configured scales hold for the source size they were chosen for, whose test scale is `config.test_scale`; for
    another source or target size they are taken relative to the scale that fills the target.
    """
    fill = max(target[0] / source[0], target[1] / source[1])
    scale = rng.uniform(*config.scale) / config.test_scale * fill
    resized = (max(1, int(source[0] * scale)), max(1, int(source[1] * scale)))
    top = _top(resized[0], target[0], horizon)
    left = int(rng.uniform(0, max(0, resized[1] - target[1])))
    flip = bool(rng.random() < config.flip)
    angle = float(rng.uniform(-config.rotate_deg, config.rotate_deg))
    return ImageTransform(source, target, resized, (top, left), flip, angle)


def open_image(path: str | Path, token: str | None = None) -> Image.Image:
    """Decode an image file (JPEG or PNG) as RGB.

    Raises:
        DataError: missing, truncated or unreadable, or not what `bevkd.data.pictures` takes.
    """
    with reading(path, "image", token=token, field="filename"):
        stream = regular.open_regular(path, regular.IMAGE)
    with stream, picture(stream, path, token, "filename") as image:
        return as_rgb(image)
