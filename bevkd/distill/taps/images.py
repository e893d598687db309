"""Levels of the image backbone, counted from the coarsest (-1): at cells that boxes touch, and affinities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from bevkd.distill.tap import Cellset, CellTap, Tap, register_tap

if TYPE_CHECKING:
    from bevkd.data.batch import Target
    from bevkd.distill.masks import Cells
    from bevkd.distill.reading import Reading
    from bevkd.distill.sizes import Sizes

_ANY = "image0"  # all levels are made together


@register_tap("image box cells")
@dataclass(frozen=True)
class ImageBoxCells(Cellset):
    """Cells `(camera * h + row) * w + column` of a level that the rectangle of a box touches and where the teacher's
    feature is not zero.
    """

    feature: ClassVar[str] = _ANY
    level: int = -1

    def find(self, reading: Reading) -> Cells:
        """Cells sorted by frame, all of weight 1.

        Raises:
            ConfigError: the network has no image backbone, or the batch no cameras.
        """
        import torch

        from bevkd.distill.image_boxes import image_rectangles, rectangle_mask
        from bevkd.distill.masks import Cells
        from bevkd.errors import ConfigError

        c = reading.context
        if c.cameras is None or c.bev_aug is None or not reading.outputs.image:
            raise ConfigError("levels of images need a teacher with an image backbone and a batch with cameras")
        cameras, bev_aug = c.cameras, c.bev_aug
        rectangles, seen = reading.once("image rectangles", lambda: image_rectangles(c.boxes, cameras, bev_aug))
        level = reading.outputs.image[self.level]
        size, shape = cameras.images.shape[-2:], level.shape[-2:]
        mask = rectangle_mask(rectangles, seen, c.boxes.frame, c.batch_size, (shape[0], shape[1]), (size[0], size[1]))
        mask &= (level != 0).any(dim=2)
        frame, cell = torch.nonzero(mask.flatten(1), as_tuple=True)
        return Cells(cell, frame, torch.ones_like(cell, dtype=torch.float32))

    def count(self, sizes: Sizes) -> float:
        """A share of all cells."""
        return sizes.image_box_share * sizes.image(self.level)[1]


@register_tap("image cell values")
@dataclass(frozen=True)
class ImageCellValues(CellTap):
    """Features (n, C) of a level at its cells."""

    feature: str = _ANY
    cells: ImageBoxCells = ImageBoxCells()

    def read(self, reading: Reading) -> Target:
        """One row per cell."""
        from bevkd.distill.image_boxes import image_cells

        cells = reading.cells(self.cells)
        return reading.rows(image_cells(reading.outputs.image[self.cells.level], cells.cell, cells.frame), cells.frame)

    def entry_bytes(self, sizes: Sizes) -> float:
        """A vector per cell."""
        return 2 * self.cells.count(sizes) * sizes.image(self.cells.level)[0]


@register_tap("image affinity")
@dataclass(frozen=True)
class ImageAffinity(Tap):
    """Dot products (B, N, s, s) among the cells of each image, at the coarsest level's size."""

    feature: str = _ANY
    level: int = -1

    def read(self, reading: Reading) -> Target:
        """One row per frame."""
        from bevkd.distill.pairwise import affinity

        levels = reading.outputs.image
        level, size = levels[self.level], levels[-1].shape[-2:]
        pairs = affinity(level.flatten(0, 1), (size[0], size[1]))
        return reading.per_frame(pairs.unflatten(0, level.shape[:2]))

    def entry_bytes(self, sizes: Sizes) -> float:
        """A square per image."""
        return 2 * sizes.image(-1)[1] ** 2 / sizes.cameras
